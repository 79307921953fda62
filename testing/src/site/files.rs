//! A site's logs as files.

use std::path::Path;
use std::{fs, io};

use super::{MadeLine, MadeSite, server_address};

/// Writes a site's files into a folder: `pen.log`, with further balancers `pen-1.log` and so on, and one for each file
/// of a server. Returns the arguments of mergelogs that read them.
///
/// # Errors
/// When a file cannot be written.
pub fn write_files(site: &MadeSite, folder: &Path) -> io::Result<Vec<String>> {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut arguments = Vec::new();
    for balancer in 0..=site.records.iter().map(|record| record.balancer).max().unwrap_or(0) {
        let name = if balancer == 0 { "pen.log".to_owned() } else { format!("pen-{balancer}.log") };
        let of_balancer = site.records.iter().filter(|record| record.balancer == balancer);
        let records: Vec<u8> = of_balancer.flat_map(|record| record.line.clone()).collect();
        fs::write(folder.join(&name), records)?;
        arguments.extend(["-p".to_owned(), path(&name)]);
    }
    let files = site.lines.iter().map(|line| line.file).max().map_or(0, |last| last + 1);
    let mut logs = vec![(0, Vec::new()); files];
    for MadeLine { server, file, text, .. } in &site.lines {
        let (of, log) = &mut logs[*file];
        *of = *server;
        log.extend_from_slice(text);
        log.push(b'\n');
    }
    if let Some(window) = site.window {
        arguments.extend(["-j".to_owned(), window.to_string()]);
    }
    if let Some(zone) = site.zone {
        arguments.extend(["--zone".to_owned(), zone.to_owned()]);
    }
    if let Some(format) = site.mapping_format {
        arguments.extend(["--mapping-format".to_owned(), format.to_owned()]);
    }
    arguments.extend(site.options.iter().cloned());
    for (file, (server, log)) in logs.iter().enumerate().filter(|(_, (_, log))| !log.is_empty()) {
        let name = format!("access-{file}.log");
        fs::write(folder.join(&name), log)?;
        arguments.push(format!("{}:{}", server_address(*server), path(&name)));
    }
    Ok(arguments)
}
