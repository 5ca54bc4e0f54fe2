//! PMI-2: a request is six characters of length, padded with blanks, and as many bytes of `name=value;`. A semicolon in a
//! value is written twice.

use super::limits::REQUEST_MOST;
use super::talk::{Ask, Fields, Form};

const HEAD: usize = 6;

/// The first request of these bytes and how long it is, if it is whole.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(usize, Ask, Form)>, &'static str> {
    let Some(head) = bytes.first_chunk::<HEAD>() else { return Ok(None) };
    let length = std::str::from_utf8(head).ok().and_then(|head| head.trim().parse::<usize>().ok());
    let length = length.filter(|length| *length <= REQUEST_MOST).ok_or("a frame whose length makes no sense")?;
    let Some(body) = bytes.get(HEAD..HEAD + length) else { return Ok(None) };
    let body = std::str::from_utf8(body).map_err(|_| "a frame that is no text")?;
    let fields = fields(body);
    let command = fields.find("cmd").ok_or("a frame without a command")?.to_string();
    let form =
        Form { command: format!("{command}-response"), thread: fields.find("thrid").map(Into::into), framed: true };
    Ok(Some((HEAD + length, meaning(&command, &fields), form)))
}

/// An answer. Slurm's library wants `rc` before the rest.
pub(super) fn say(form: &Form, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut body = format!("cmd={};", form.command);
    let thread = form.thread.iter().map(|thread| ("thrid", thread.as_str()));
    let (rc, rest): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| *name == "rc");
    for (name, value) in thread.chain(rc).chain(rest) {
        body.push_str(&format!("{name}={};", value.replace(';', ";;")));
    }
    format!("{:<HEAD$}{body}", body.len()).into_bytes()
}

fn fields(body: &str) -> Fields<'_> {
    let mut fields = Vec::new();
    let mut rest = body.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, left) = value(after);
        fields.push((name.trim(), value));
        rest = left;
    }
    Fields(fields)
}

/// A value up to its semicolon, and what follows.
fn value(text: &str) -> (String, &str) {
    let (mut value, mut rest) = (String::new(), text);
    while let Some((part, after)) = rest.split_once(';') {
        value.push_str(part);
        match after.strip_prefix(';') {
            Some(after) => {
                value.push(';');
                rest = after;
            }
            None => return (value, after),
        }
    }
    value.push_str(rest.trim_end_matches(['\n', '\0']));
    (value, "")
}

fn meaning(command: &str, fields: &Fields<'_>) -> Ask {
    let waits =
        |fields: &Fields<'_>| fields.find("wait").is_some_and(|wait| wait == "1" || wait.eq_ignore_ascii_case("true"));
    match command {
        "fullinit" => Ask::FullInit,
        "job-getid" => Ask::StoreName,
        "kvs-put" => Ask::Put { key: fields.text("key"), value: fields.text("value") },
        "kvs-get" | "info-getjobattr" => Ask::Get { key: fields.text("key") },
        "kvs-fence" => Ask::Barrier,
        "info-putnodeattr" => Ask::PutOnNode { key: fields.text("key"), value: fields.text("value") },
        "info-getnodeattr" => Ask::GetOnNode { key: fields.text("key"), waits: waits(fields) },
        "finalize" => Ask::Finalize,
        "abort" => Ask::Abort { code: fields.number("exitcode").unwrap_or(1), words: fields.text("msg") },
        "name-publish" => Ask::Publish { name: fields.text("name"), port: fields.text("port") },
        "name-unpublish" => Ask::Unpublish { name: fields.text("name") },
        "name-lookup" => Ask::LookUp { name: fields.text("name") },
        other => Ask::Other(other.into()),
    }
}
