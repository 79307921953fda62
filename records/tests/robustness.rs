//! Any bytes give a value or an error: mutated real input goes through every parser.
//!
//! A plain loop for the stable toolchain: a few seconds in every test run, or `PEN_FUZZ_SECONDS`
//! seconds. The targets in `fuzz/` run the same checks.

#[path = "robustness/checks.rs"]
mod checks;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;

const CHECKS: [fn(&[u8]); 10] = [
    checks::mapping_datagram,
    checks::mapping_file_line,
    checks::access_line,
    checks::json_line,
    checks::shaped_line,
    checks::format_and_lines,
    checks::datagram,
    checks::frames,
    checks::balancers_log,
    checks::join,
];

/// A seed of each kind.
const SEEDS: &[&[u8]] = &[
    b"\x02\x09\x01\x03\x05\0\0\0hello\x01\0\0\0a\x0c\0\0\0of 12 bytes.\xff\0\0\0cut",
    b"\0\0\0\0\x01\0\0\0a\0\0\x01\0more",
    br#"2026-11-22T20:23:21Z,10.0.0.9,GET,/a?b=1,HTTP/1.1,200,512,"x, ""y""""#,
    b"10.0.0.9, -, 11/22/26, 20:23:21, W3SVC1, WEB1, 10.0.1.5, 12, 65, 512, 200, 0, GET, /a, b=1,",
    b"2026/11/22 20:23:21.123\tINFO\thttp.log.access\tx\t{\"request\": {\"remote_ip\": \"10.0.0.9\", \"method\": \"GET\", \"uri\": \"/a\"}}",
    br#"[2026-11-22T20:23:21.1Z] "GET /a HTTP/1.1" 200 - - - "-" 0 5 3 2 "-" "x" "8f" "a" "10.0.1.5:80" outbound|80||w 10.0.1.1:4 10.0.1.5:80 10.0.0.9:5 - d"#,
    b"+ 198.51.100.7 127.0.0.1 GET /a?b=c HTTP/1.1\n",
    b"+ 2001:db8::7 2001:db8::1 POST /\xC3\xA9 HTTP/1.1",
    b"+  /run/web.sock GET / HTTP/1.0\n",
    b"198.51.100.7 1772323200 10.0.0.1 GET /a HTTP/1.1\n",
    b" 1772323200 /run/web.sock GET /\n",
    b"127.0.0.1 - - [01/Mar/2026:00:00:00 +0000] \"GET /a?b=c HTTP/1.1\" 200 512",
    br#"10.0.0.9 - frank [01/Mar/2026:00:00:00 -0330] "GET /\"q\\\xC3 HTTP/1.1" 304 - "http://example.org/?\x22" "Mozilla/5.0 (X11)""#,
    b"www.example.org:443 ::1 - - [29/Feb/2024:23:59:60 +0530] \"-\" 408 0 \"-\" \"-\"\r",
    br#"<190>Nov 22 20:23:20 web nginx: 127.0.0.1 - - [22/Nov/2026:20:23:20 +0000] "GET / HTTP/2.0" 200 5 "-" "curl/8""#,
    br#"<134>1 2026-03-01T00:00:00.000003Z web nginx 7 - [a@1 b="c\]"] 127.0.0.1 - - [01/Mar/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 5"#,
    br#"{"remote_addr":"127.0.0.1","time_local":"01/Mar/2026:00:00:00 +0000","request":"GET /\u00e9\ud83d\ude00 HTTP/1.1","status":200,"body_bytes_sent":"5"}"#,
    br#"{"level":"info","ts":1772323200.25,"request":{"remote_ip":"127.0.0.1","remote_port":"4711","method":"GET","uri":"/","proto":"HTTP/1.1","headers":{"User-Agent":["a"]}},"status":200,"size":5}"#,
    b"shop.example - 10.0.0.9 - - [14/Nov/2023:22:13:20 +0000] \"GET /one HTTP/1.1\" 200 271 \"-\" \"curl/8.0\"\nNov 14 22:13:20 FW1 fw1 nginx: 10.0.0.9 - - [14/Nov/2023:22:13:20 +0000] \"GET /one HTTP/1.1\" 200 271",
    b"2023-11-14T22:13:20.346494690+00:00 stdout F 10.0.0.9 - - \"GET http://a.example/one HTTP/1.1\" 200 271\nTue 2023-11-14 22:13:20 UTC web1 nginx[1]: a.example \"-, x\" 10.0.0.9 - - [14/Nov/2023:22:13:20 +0000] \"GET /one HTTP/1.1\" 200 271",
    b"web-1  | [14/Nov/2023:22:13:20 +0000] 10.0.0.9 TLSv1.3 X \"GET / HTTP/1.1\" 5\naccess.log:17:10.0.0.9 - - [14/Nov/2023:22:13:20 +0000] \"GET / HTTP/1.1\" 200 5 \"http://a \"x\"",
    br#"{"log":"10.0.0.9 - - [14/Nov/2023:22:13:20 +0000] \"GET /\\x22\u0026 HTTP/1.1\" 200 5\n","stream":"stdout","time":"2023-11-14T22:13:20.346494690Z"}"#,
    br#"[{"nginx":{"remote_addr":"10.0.0.9","t":,"request":"GET / HTTP/1.1","msec":1700000000.5,},"a":[1,]},"#,
    b"%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-agent}i\" %{remote}p\n127.0.0.1 - - [01/Mar/2026:00:00:00 +0000] \"GET / HTTP/1.1\" 200 5 \"-\" \"a\" 4711",
    b"log_format x escape=json '$remote_addr [$time_iso8601] ' '\"${request}\" $status';\n127.0.0.1 [2026-03-01T00:00:00+00:00] \"GET / HTTP/1.1\" 200",
    b"%{%d/%b/%Y %T}t.%{usec_frac}t %v:%p %a %D %U%q\n01/Mar/2026 00:00:00.000001 a:80 127.0.0.1 3 /b?c",
    b"json client=request.remote_ip,time=ts\n{\"request\":{\"remote_ip\":\"127.0.0.1\"},\"ts\":1}",
    b"haproxy\n<134>Nov 25 16:46:11 haproxy[4866]: 127.0.0.1:60114 [25/Nov/2026:16:46:11.526] web app/w1 1/2/0/3/10 200 128 - - ---- 1/1/0/0/0 0/0 {curl|#22} \"GET https://a/p#22 HTTP/2.0\" 127.0.0.1:4 127.0.0.2:80 \"a\\\"b\" \"\" 6",
    b"haproxy\n127.0.0.1:39116 [25/Nov/2026:16:46:11.604] t a/w1 1/0/+1 +0 -- 1/1/1/1/0 0/0 127.0.0.1:52812 127.0.77.1:18081",
    b"[%START_TIME%] \"%REQ(:METHOD)% %REQ(X?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %BYTES_SENT% %DURATION% %UPSTREAM_HOST% %DOWNSTREAM_REMOTE_ADDRESS% %UPSTREAM_LOCAL_ADDRESS%\n[2026-04-15T20:17:00.310Z] \"POST /a HTTP/2\" 204 0 226 10.0.2.1:80 203.0.113.9:5555 10.0.1.1:40100",
    b"%<cqtq> %<ttms> %<chi> %<pqsi> %<pqsp> %<nhi> \"%<cqtx>\" %<sssc>\n1432194201.810 15 203.0.113.9 127.0.0.1 40100 10.0.0.1 \"GET /a http/1.1\" 200",
    b"$remote_addr [$time_local] \"$request\" \"$upstream_addr\" $request_time\n203.0.113.9 [10/Oct/2000:13:55:36 -0700] \"GET /a HTTP/1.1\" \"10.0.0.1:80, 10.0.0.2:80\" 1.250",
    b"+ 198.51.100.7 127.0.0.1 GET /a HTTP/1.1\n+ 198.51.100.8 127.0.0.1 GET /a HTTP/1.1\n127.0.0.1 - - [01/Mar/2026:00:00:00 +0000] \"GET /a HTTP/1.1\" 200 5\n127.0.0.1 - - [01/Mar/2026:00:00:01 +0000] \"GET /a HTTP/1.1\" 200 5",
    b"pen1 1772323200.000001 open 198.51.100.7 9 127.0.0.1 80 127.0.0.9 4711 1 - - - - - - - - - - - -\npen1 1772323200.000002 request 198.51.100.7 9 127.0.0.1 80 127.0.0.9 4711 1 1 - - - - - - - - - - GET / HTTP/1.1\npen1 1772323200.000003 end 198.51.100.7 9 127.0.0.1 80 127.0.0.9 4711 1 1 200 90 5 5 - - - - - - -\npen1 1772323200.000004 close 198.51.100.7 9 127.0.0.1 80 127.0.0.9 4711 1 - - - - - 60 95 - - - - -\n%h %l %u %t \"%r\" %>s %b %{remote}p\n127.0.0.1 - - [01/Mar/2026:00:00:00 +0000] \"GET / HTTP/1.1\" 200 5",
    b"pen1 1772323200.000002 request 198.51.100.7 9 127.0.0.1 80 127.0.0.9 4711 1 1 - - - - - - 0123abcd - - 0123456789abcdef GET /\npen1 1772323200.000004 close 198.51.100.7 9 127.0.0.1 80 127.0.0.9 4711 1 - - - - - 60 95 - - - - -",
    b"198.51.100.7 1772323200 127.0.0.1 GET /a HTTP/1.1\n198.51.100.7 1772323201 127.0.0.1 GET /a HTTP/1.1\n127.0.0.1 - - [01/Mar/2026:00:00:00 +0000] \"GET /a HTTP/1.1\" 200 5",
];

/// Bytes with a meaning for some parser.
const TELLING: &[u8] = b"\"\\[]{}()<> \t\r\n\0\x7F\x80\xFF+-:;,.%$'/=xu0123456789";

/// Longer than every buffer and limit.
const LONGEST: usize = 80_000;

#[test]
fn no_bytes_panic_and_the_laws_hold_for_all() {
    let seeds = seeds();
    let seconds = std::env::var("PEN_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(4));
    for seed in &seeds {
        check(seed);
    }
    let mut random = MutationRandom(seconds.unwrap_or(0) + 1);
    let begin = TestTimer::start();
    let mut inputs = 0_u64;
    while begin.elapsed() < time {
        for _ in 0..64 {
            check(&bent(&seeds, &mut random));
        }
        inputs += 64;
    }
    println!("{inputs} inputs from {} seeds", seeds.len());
}

#[test]
fn what_once_broke_a_law_breaks_none() {
    for input in [&b""[..], b"\n", b"+ ", b"\xFEpn\x01", b"\"", b"[", b"{", b"%", b"$", b"<"] {
        check(input);
    }
    for byte in [b'"', b'[', b'\\', b'{', b'<', b' ', b'%', b'\0', b'9'] {
        check(&vec![byte; LONGEST]);
    }
}

fn check(input: &[u8]) {
    let _tell = FailingInput(input);
    let begin = TestTimer::start();
    for check in CHECKS {
        check(input);
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "that took so long that it is a hang");
}

/// Prints the input when a check panics.
struct FailingInput<'a>(&'a [u8]);

impl Drop for FailingInput<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was b\"{}\"", self.0.escape_ascii());
        }
    }
}

/// A seed, mutated in one to eight places.
fn bent(seeds: &[Vec<u8>], random: &mut MutationRandom) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() + 1);
        let end = at + random.below((input.len() - at).min(40) + 1);
        match random.below(9) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = TELLING[random.below(TELLING.len())],
            2 => input.insert(at, TELLING[random.below(TELLING.len())]),
            3 => drop(input.drain(at..end)),
            4 => input.truncate(at),
            5 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                input.splice(at..end, other[from..].iter().copied());
            }
            7 => {
                let other = &seeds[random.below(seeds.len())];
                input.push(b'\n');
                input.extend_from_slice(other);
            }
            // Seldom, because long inputs slow down everything.
            8 if random.below(50) == 0 && at < end => {
                let again = input[at..end].repeat(random.below(2_000));
                input.splice(at..at, again);
            }
            _ => {}
        }
        input.truncate(LONGEST);
    }
    input
}

/// Seeds: the built-in ones, the corpora of the fuzz targets, lines of the fixtures, and real lines
/// if present.
fn seeds() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seeds: Vec<_> = SEEDS.iter().map(|seed| seed.to_vec()).collect();
    let mut files = Vec::new();
    walk(&root.join("fuzz/corpus"), &mut files);
    seeds.extend(files.drain(..).filter_map(|file| fs::read(file).ok()));
    walk(&root.join("fixtures"), &mut files);
    let beside = root.join("../shared");
    let shared = std::env::var_os("PEN_SHARED").map_or(beside, PathBuf::from);
    if shared.join("data/access").is_dir() {
        walk(&shared.join("data/access"), &mut files);
    } else {
        println!("no real logs in {}: only made ones are bent", shared.display());
    }
    for file in files {
        let Ok(bytes) = fs::read(&file) else { continue };
        let extension = file.extension().and_then(|extension| extension.to_str());
        match extension {
            Some("hex") => seeds.extend(unhex(&bytes)),
            Some("gz") => {
                let mut text = Vec::new();
                // Truncated text is good enough here.
                MultiGzDecoder::new(&bytes[..]).take(1 << 20).read_to_end(&mut text).ok();
                few_lines(&text, &mut seeds);
            }
            Some("bz2" | "xz" | "zst") => seeds.push(bytes.into_iter().take(512).collect()),
            _ => few_lines(&bytes, &mut seeds),
        }
    }
    seeds
}

/// Some lines from all parts of the text.
fn few_lines(text: &[u8], seeds: &mut Vec<Vec<u8>>) {
    let lines: Vec<_> = text.split(|&b| b == b'\n').filter(|line| !line.is_empty()).collect();
    let step = (lines.len() / 60).max(1);
    seeds.extend(lines.iter().step_by(step).map(|line| line.to_vec()));
}

/// A datagram in hexadecimal; `#` begins a comment.
fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(text);
    let code = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let digits: Vec<u8> = code
        .flat_map(str::chars)
        .filter_map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    (!digits.is_empty()).then(|| digits.chunks_exact(2).map(|two| two[0] << 4 | two[1]).collect())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

/// A test may look at a clock; the crate may not.
struct TestTimer(std::time::Instant);

impl TestTimer {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test that runs for some seconds needs a clock"
    )]
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The splitmix64 generator.
struct MutationRandom(u64);

impl MutationRandom {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        usize::try_from(z % u64::try_from(end.max(1)).unwrap_or(1)).unwrap_or(0)
    }
}
