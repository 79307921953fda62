//! Lines of a log that are alike but for the client: which of them name theirs.

/// How lines that are alike but for the client are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlikeLines {
    /// By their order, which every program keeps among the lines of one server's log.
    InOrder,
    /// Not at all, where several logs may have such lines: any order is right.
    AsSet,
}

impl AlikeLines {
    /// Tells of each line if it names its client. `said` are the clients that a log names, in order, each with
    /// whether it is said for sure, and `clients` those that asked, in the order of the server's log.
    pub(super) fn rights(self, said: &[(&[u8], bool)], clients: &[Vec<u8>]) -> Vec<bool> {
        match self {
            Self::InOrder if said.len() == clients.len() => {
                said.iter().zip(clients).map(|((said, _), client)| said == client).collect()
            }
            Self::InOrder => in_order(said, clients),
            Self::AsSet => as_set(said, clients),
        }
    }
}

/// Some lines are lost or doubled, and nobody knows which: the most that can be right in this order.
fn in_order(said: &[(&[u8], bool)], clients: &[Vec<u8>]) -> Vec<bool> {
    let width = clients.len() + 1;
    // From each line and client on: how many can be right, and how many of them for sure.
    let mut most = vec![(0, 0); (said.len() + 1) * width];
    for (line, &(name, sure)) in said.iter().enumerate().rev() {
        for (nth, client) in clients.iter().enumerate().rev() {
            let without = most[(line + 1) * width + nth].max(most[line * width + nth + 1]);
            let (right, for_sure) = most[(line + 1) * width + nth + 1];
            let with = (right + 1, for_sure + usize::from(sure));
            most[line * width + nth] = if name == client { with.max(without) } else { without };
        }
    }
    let mut nth = 0;
    let mut is_right = |line: usize| {
        // Clients whose line is not there are passed over.
        while nth < clients.len() && most[line * width + nth] == most[line * width + nth + 1] {
            nth += 1;
        }
        let is_right = most[line * width + nth] != most[(line + 1) * width + nth];
        nth += usize::from(is_right);
        is_right
    };
    (0..said.len()).map(&mut is_right).collect()
}

/// Of lines that are alike the surest goes first.
fn as_set(said: &[(&[u8], bool)], clients: &[Vec<u8>]) -> Vec<bool> {
    let mut left: Vec<&[u8]> = clients.iter().map(Vec::as_slice).collect();
    let mut rights = vec![false; said.len()];
    for surely in [true, false] {
        for (right, &(name, _)) in rights.iter_mut().zip(said).filter(|(_, said)| said.1 == surely)
        {
            if let Some(at) = left.iter().position(|client| *client == name) {
                left.swap_remove(at);
                *right = true;
            }
        }
    }
    rights
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(alike: AlikeLines, said: &str, clients: &str) -> String {
        let said: Vec<(&[u8], bool)> = said
            .split(' ')
            .map(|name| (name.trim_end_matches('!').as_bytes(), name.ends_with('!')))
            .collect();
        let clients: Vec<Vec<u8>> =
            clients.split(' ').map(|name| name.as_bytes().to_vec()).collect();
        alike
            .rights(&said, &clients)
            .into_iter()
            .map(|right| if right { 'y' } else { 'n' })
            .collect()
    }

    #[test]
    fn lines_that_change_places_are_wrong_only_by_their_order() {
        assert_eq!(rights(AlikeLines::InOrder, "b a c", "a b c"), "nny");
        assert_eq!(rights(AlikeLines::AsSet, "b a c", "a b c"), "yyy");
    }

    #[test]
    fn where_lines_are_lost_or_doubled_the_others_keep_their_order() {
        assert_eq!(rights(AlikeLines::InOrder, "b c d", "a b c d"), "yyy");
        assert_eq!(rights(AlikeLines::InOrder, "d b c", "a b c d"), "nyy");
        assert_eq!(rights(AlikeLines::InOrder, "a b b c", "a b c").matches('y').count(), 3);
        assert_eq!(rights(AlikeLines::InOrder, "x", "a b"), "n");
        assert_eq!(rights(AlikeLines::InOrder, "a x b", "b"), "nny");
    }

    #[test]
    fn of_two_ways_the_one_with_more_sure_lines_counts() {
        assert_eq!(rights(AlikeLines::InOrder, "b! a c", "a b x y"), "ynn");
        assert_eq!(rights(AlikeLines::InOrder, "b a! c", "a b x y"), "nyn");
        assert_eq!(rights(AlikeLines::AsSet, "a a!", "a b"), "ny");
    }
}
