//! The stories of `fixtures/`, made by running the real programs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::stage::visitors::{self, TrafficKind, Visit};
use crate::stage::{Mappings, Site, TempFolder, WebPlan, WebServerKind};
use crate::{ActionError, Doing};

/// Makes them all under `folder`.
///
/// # Errors
/// When a program is missing or fails.
pub fn run(folder: &Path) -> Result<(), ActionError> {
    shop(&folder.join("shop"))?;
    long_urls(&folder.join("long-urls"))?;
    junk(&folder.join("junk"))
}

/// A shop's morning: its logs rotated twice, the oldest compressed.
fn shop(to: &Path) -> Result<(), ActionError> {
    let mut scene =
        Scene::start(&[WebServerKind::Nginx, WebServerKind::Nginx, WebServerKind::Apache])?;
    let parts = [TrafficKind::Single, TrafficKind::KeepAlive, TrafficKind::Slow];
    for (part, (manner, seed)) in parts.into_iter().zip(11..).enumerate() {
        let visits = spread(visitors::draw(manner, 100, seed));
        scene.site.send(&visits)?;
        for web in &mut scene.site.webs {
            match part {
                0 => compress(&web.rotate()?, &web.access_log().with_extension("log.2.gz"))?,
                1 => drop(web.rotate()?),
                _ => {}
            }
        }
    }
    scene.finish(to, &["access.log", "access.log.1", "access.log.2.gz"])
}

/// Addresses far longer than what a mapping keeps.
fn long_urls(to: &Path) -> Result<(), ActionError> {
    let mut scene = Scene::start(&[WebServerKind::Nginx, WebServerKind::Apache])?;
    scene.site.send(&spread(visitors::draw(TrafficKind::LongUrls, 40, 21)))?;
    scene.finish(to, &["access.log"])
}

/// Bytes of clients that are no HTTP request, as they end up in the logs.
fn junk(to: &Path) -> Result<(), ActionError> {
    let mut scene = Scene::start(&[WebServerKind::Nginx, WebServerKind::Apache])?;
    scene.site.send(&spread(visitors::draw(TrafficKind::Post, 30, 31)))?;
    scene.site.send(&spread(visitors::draw(TrafficKind::Pipelined, 30, 32)))?;
    // One at a time, so that each is where it was written below.
    for visit in oddities() {
        scene.site.send(&[visit])?;
    }
    scene.finish(to, &["access.log"])
}

/// Bodies that look like mappings.
const FORGED_LINE: &str = "127.1.0.9 1 127.0.1.1 GET /forged HTTP/1.1\r\n";
const FORGED_RECORD: &str = "+ 127.1.0.9 127.0.1.1 GET /forged HTTP/1.1\r\n";

/// Returns one visit for each oddity, each from a client of its own; requests with headers name the client.
fn oddities() -> Vec<Visit> {
    let hello: &[u8] =
        b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03\"pen\\\x00\x7f\xff\xe9\r\n\r\n";
    let cases: Vec<(Vec<Vec<u8>>, usize)> = vec![
        (vec![hello.to_vec()], 1),
        (vec![hello.to_vec()], 1),
        (vec![get("/plain", 2)], 1),
        (vec![b"\r\n".to_vec(), get("/after-a-line-end", 3)], 1),
        (vec![get("/caf\u{e9}?q=\u{fc}ber", 4)], 1),
        (vec![get("/quote\"in?path=\"x\"&back=\\", 5)], 1),
        (vec![b"GET /spl".to_vec(), get("it", 6).split_off(4)], 1),
        (get("/b", 7).chunks(1).map(<[u8]>::to_vec).collect(), 1),
        (vec![post("/post/form", 8, FORGED_LINE), FORGED_LINE.into()], 1),
        (vec![post("/post/form", 9, FORGED_RECORD), FORGED_RECORD.into()], 1),
        (vec![b"GET /tab\there HTTP/1.1\r\n\r\n".to_vec()], 1),
        (vec![b"BREW /pot HTTP/9.9\r\n\r\n".to_vec()], 1),
        (vec![get(&format!("/{}", "a".repeat(86)), 12)], 1),
        (vec![get(&format!("/{}", "a".repeat(87)), 13)], 1),
    ];
    cases
        .into_iter()
        .enumerate()
        .map(|(nth, (pieces, answers))| {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            visitors::visit(visitors::address(60 + nth), &pieces, answers)
        })
        .collect()
}

fn get(target: &str, nth: usize) -> Vec<u8> {
    request("GET", target, nth, "")
}

fn post(target: &str, nth: usize, body: &str) -> Vec<u8> {
    request("POST", target, nth, &format!("Content-Length: {}\r\n", body.len()))
}

fn request(method: &str, target: &str, nth: usize, more: &str) -> Vec<u8> {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: odd \"one\"\\\r\n{more}\
         X-Request-Id: odd{nth}\r\nX-True-Client: {}\r\n\r\n",
        visitors::address(60 + nth)
    )
    .into_bytes()
}

/// Lets visitors take their time.
fn spread(mut visits: Vec<Visit>) -> Vec<Visit> {
    for (visit, nth) in visits.iter_mut().zip(0_u64..) {
        if let Some(round) = visit.rounds.first_mut() {
            round.pause = Duration::from_millis(nth * 373 % 1_900);
        }
    }
    visits
}

/// A site whose files become a story.
struct Scene {
    folder: TempFolder,
    pen_log: PathBuf,
    site: Site,
}

impl Scene {
    fn start(kinds: &[WebServerKind]) -> Result<Self, ActionError> {
        let folder = TempFolder::new();
        let pen_log = folder.join("pen.log");
        let plans: Vec<WebPlan> = kinds
            .iter()
            .zip(1..)
            .map(|(&kind, number)| WebPlan {
                kind,
                number,
                outputs: vec![],
                tls: false,
                addr: None,
            })
            .collect();
        let site = Site::start(&folder, &plans, &Mappings::File(pen_log.clone()))?;
        Ok(Self { folder, pen_log, site })
    }

    /// Ends it and moves its logs to where they are kept.
    fn finish(mut self, to: &Path, logs: &[&str]) -> Result<(), ActionError> {
        let _truth = self.site.stop()?;
        let keep = |from: &Path, to: &Path| {
            let parent = to.parent().unwrap_or(to);
            fs::create_dir_all(parent).doing(format_args!("make {}", parent.display()))?;
            fs::copy(from, to).doing(format_args!("write {}", to.display())).map(|_len| ())
        };
        keep(&self.pen_log, &to.join("pen.log"))?;
        for number in 1..=self.site.webs.len() {
            let web = format!("web{number}");
            for log in logs.iter().chain(&["truth.log"]) {
                keep(&self.folder.join(&web).join(log), &to.join(&web).join(log))?;
            }
        }
        Ok(())
    }
}

/// Compresses a file as gzip does, with no time or name in it, and removes it.
fn compress(from: &Path, to: &Path) -> Result<(), ActionError> {
    let text = fs::read(from).doing(format_args!("read {}", from.display()))?;
    let file = fs::File::create(to).doing(format_args!("make {}", to.display()))?;
    let mut encoder = GzEncoder::new(file, Compression::best());
    encoder
        .write_all(&text)
        .and_then(|()| encoder.finish().map(|_file| ()))
        .and_then(|()| fs::remove_file(from))
        .doing(format_args!("compress {}", from.display()))
}
