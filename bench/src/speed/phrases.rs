//! What visitors ask for: real request lines where there are some, made ones elsewhere.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use pen_testing::random::SeededRandom;

use super::workspace;

/// Real logs in combined format, as they lie in the folder of samples.
const LOGS: [&str; 2] = [
    "data/access/grafana_alloy/long-access.redacted.gz",
    "data/access/srhegdegadikai_Analyzing_access_logs/access.log.gz",
];

/// A logged request without client, time and User-Agent.
pub(super) struct Phrase {
    /// The request line, without characters that a log would escape.
    pub(super) request: Vec<u8>,
    /// Status and bytes: `200 512`.
    pub(super) result: Vec<u8>,
    pub(super) referer: Vec<u8>,
}

/// Requests in the frequency of the fixtures, and their User-Agents.
pub(super) struct Phrases {
    pub(super) phrases: Vec<Phrase>,
    pub(super) user_agents: Vec<Vec<u8>>,
    /// Where they come from, in words.
    pub(super) source: &'static str,
}

impl Phrases {
    pub(super) fn load() -> Self {
        let mut all = Self { phrases: Vec::new(), user_agents: Vec::new(), source: "real logs" };
        for path in LOGS.iter().filter_map(|log| sample(log)) {
            if let Ok(file) = File::open(&path) {
                all.read(BufReader::new(MultiGzDecoder::new(file)));
            }
        }
        if all.phrases.len() < 1000 { Self::made() } else { all }
    }

    fn read(&mut self, mut log: impl BufRead) {
        let mut line = Vec::new();
        while log.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let fields: Vec<&[u8]> = line.split(|&b| b == b'"').collect();
            if let [_, request, result, referer, _, user_agent, ..] = fields[..] {
                let plain = !request.is_empty() && request.iter().all(|b| (32..127).contains(b));
                if plain && !line.contains(&b'\\') {
                    self.phrases.push(Phrase {
                        request: request.to_vec(),
                        result: result.trim_ascii().to_vec(),
                        referer: referer.to_vec(),
                    });
                    self.user_agents.push(user_agent.to_vec());
                }
            }
            line.clear();
        }
    }

    /// Made ones, some asked far more often than others.
    fn made() -> Self {
        const WORDS: [&str; 12] = [
            "shop", "image", "article", "static", "search", "user", "cart", "news", "api", "list",
            "product", "theme",
        ];
        let mut random = SeededRandom::new(7);
        let phrases = (0..100_000)
            .map(|_| {
                let number = random.below(200) * random.below(200);
                let first = WORDS[number % WORDS.len()];
                let second = WORDS[number / 7 % WORDS.len()];
                let request = format!("GET /{first}/{second}/{number}?size=large HTTP/1.1");
                let referer = format!("https://www.example.org/{second}/{}", random.below(999));
                let result = format!("200 {}", 100 + random.below(90_000));
                Phrase {
                    request: request.into_bytes(),
                    result: result.into_bytes(),
                    referer: referer.into_bytes(),
                }
            })
            .collect();
        let user_agents = (0..300)
            .map(|n| {
                let release = 60 + n % 80;
                format!(
                    "Mozilla/5.0 (X11; Linux x86_64; rv:{release}.0) Gecko/{n} Firefox/{release}.0"
                )
            })
            .map(String::into_bytes)
            .collect();
        Self { phrases, user_agents, source: "made requests" }
    }
}

/// A file of the samples that may lie beside the workspace.
fn sample(name: &str) -> Option<PathBuf> {
    let beside = workspace().join("../shared");
    let named = std::env::var_os("PEN_SHARED").map(PathBuf::from);
    let folders = [Some(beside), named].into_iter().flatten();
    folders.map(|folder: PathBuf| folder.join(name)).find(|path: &PathBuf| Path::exists(path))
}
