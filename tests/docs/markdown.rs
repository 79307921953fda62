//! Documents in Markdown, as far as the tests look at them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::ROOT;

/// A document.
pub(crate) struct Document {
    /// The path from the root of the repository.
    pub(crate) path: PathBuf,
    /// Fenced blocks.
    pub(crate) blocks: Vec<Block>,
    /// Texts in backticks, outside of blocks.
    pub(crate) spans: Vec<String>,
    /// Targets of links to files of the repository and to headings.
    pub(crate) links: Vec<String>,
    /// Headings as the part of a link behind `#`.
    pub(crate) headings: Vec<String>,
}

/// A fenced block.
pub(crate) struct Block {
    /// The word behind the fence; empty without one.
    pub(crate) language: String,
    /// The text of the comment `<!-- test: … -->` on the line before.
    pub(crate) test: Option<String>,
    /// The number of the line with the fence.
    pub(crate) line: usize,
    /// The lines of the block.
    pub(crate) text: String,
}

impl Document {
    /// Reads the document at `path`, from the root of the repository.
    pub(crate) fn read(path: PathBuf) -> Self {
        let text =
            fs::read_to_string(Path::new(ROOT).join(&path)).expect("the document can be read");
        let (mut blocks, mut prose, mut headings) = (Vec::new(), String::new(), Vec::new());
        let mut open: Option<Block> = None;
        let mut test = None;
        for (line, number) in text.lines().zip(1..) {
            if let Some(mut block) = open.take() {
                if line.trim_start().starts_with("```") {
                    blocks.push(block);
                } else {
                    block.text.push_str(line);
                    block.text.push('\n');
                    open = Some(block);
                }
            } else if let Some(language) = line.trim_start().strip_prefix("```") {
                let (language, test) = (language.trim().to_owned(), test.take());
                open = Some(Block { language, test, line: number, text: String::new() });
            } else if let Some(comment) = line.strip_prefix("<!-- test: ") {
                test = comment.strip_suffix(" -->").map(str::to_owned);
            } else {
                if line.starts_with('#') {
                    headings.push(anchor(line.trim_start_matches('#').trim()));
                }
                prose.push_str(line);
                prose.push('\n');
            }
        }
        assert!(open.is_none(), "{}: a block has no end", path.display());
        let spans = spans(&prose);
        let links = links(&prose);
        Self { path, blocks, spans, links, headings }
    }

    /// Whether an option without its program is an option of `pen` and its companions. Other pages also name options of tools.
    pub(crate) fn is_for_users(&self) -> bool {
        ["README.md", "SECURITY.md", "docs/guide"].iter().any(|path| self.path.starts_with(path))
    }
}

/// Returns a heading as hosts of repositories make anchors of it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Returns the texts in backticks, on one line each.
fn spans(prose: &str) -> Vec<String> {
    let spans = prose.split("\n\n").flat_map(|part| part.split('`').skip(1).step_by(2));
    spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Returns the targets of links, but those to other sites.
fn links(prose: &str) -> Vec<String> {
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).filter(|target| !target.contains("://")).collect()
}
