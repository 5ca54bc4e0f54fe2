//! PMI-1: a request is a line of `name=value` with blanks between, the value of a key last; a request to spawn is many.

use super::talk::{Ask, Fields, Form};

/// The first request of these bytes and how long it is, if it is whole.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(usize, Ask, Form)>, &'static str> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| "a line that is no text")?.trim_end_matches('\r');
    if line.starts_with("mcmd=") {
        return Ok(spawn(bytes));
    }
    let fields = fields(line);
    let command = fields.find("cmd").ok_or("a line without a command")?.to_string();
    let (ask, answer) = meaning(&command, &fields);
    Ok(Some((end + 1, ask, Form { command: answer, thread: None, framed: false })))
}

/// An answer.
pub(super) fn say(command: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut line = format!("cmd={command}");
    for (name, value) in fields {
        line.push_str(&format!(" {name}={value}"));
    }
    line.push('\n');
    line.into_bytes()
}

fn fields(line: &str) -> Fields<'_> {
    // A value may have blanks and signs of equality in it.
    let (front, value) = match line.split_once(" value=") {
        Some((front, value)) => (front, Some(value)),
        None => (line, None),
    };
    let parts = front.split(' ').filter_map(|part| part.split_once('='));
    let parts = parts.map(|(name, value)| (name, value.to_string()));
    Fields(parts.chain(value.map(|value| ("value", value.to_string()))).collect())
}

/// What is asked, and the command of the answer.
fn meaning(command: &str, fields: &Fields<'_>) -> (Ask, String) {
    let (ask, answer) = match command {
        "init" => (Ask::Init { version: fields.number("pmi_version").unwrap_or(1) }, "response_to_init"),
        "initack" => (Ask::WhoAmI, "initack"),
        "get_maxes" => (Ask::Limits, "maxes"),
        "get_appnum" => (Ask::AppNumber, "appnum"),
        "get_my_kvsname" => (Ask::StoreName, "my_kvsname"),
        "get_universe_size" => (Ask::UniverseSize, "universe_size"),
        "put" => (Ask::Put { key: fields.text("key"), value: fields.text("value") }, "put_result"),
        "get" => (Ask::Get { key: fields.text("key") }, "get_result"),
        "barrier_in" => (Ask::Barrier, "barrier_out"),
        "finalize" => (Ask::Finalize, "finalize_ack"),
        "abort" => (abort(fields), ""),
        "publish_name" => (Ask::Publish { name: fields.text("service"), port: fields.text("port") }, "publish_result"),
        "unpublish_name" => (Ask::Unpublish { name: fields.text("service") }, "unpublish_result"),
        "lookup_name" => (Ask::LookUp { name: fields.text("service") }, "lookup_result"),
        other => return (Ask::Other(other.into()), format!("{other}_result")),
    };
    (ask, answer.into())
}

/// A code that cannot be read is still no success.
fn abort(fields: &Fields<'_>) -> Ask {
    Ask::Abort { code: fields.number("exitcode").unwrap_or(1), words: fields.text("error_msg") }
}

/// Blocks of lines, each up to `endcmd`, as many as the first says. There is one answer for all.
fn spawn(bytes: &[u8]) -> Option<(usize, Ask, Form)> {
    let (mut at, mut blocks, mut total) = (0, 0, 1);
    for line in bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        at += line.len();
        let line = String::from_utf8_lossy(line);
        if let Some(count) = line.trim_end().strip_prefix("totspawns=") {
            total = count.parse().unwrap_or(1);
        }
        blocks += u32::from(line.trim_end() == "endcmd");
        if blocks >= total {
            let form = Form { command: "spawn_result".into(), thread: None, framed: false };
            return Some((at, Ask::Other("spawn".into()), form));
        }
    }
    None
}
