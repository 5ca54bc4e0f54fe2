//! Lists of hosts and ports in the shorthand of Slurm: `nid[001-004,007],login1`, `12000-12003`.

#[cfg(test)]
/// No list is longer: what pretends to be is a mistake, not a cluster.
const MOST: usize = 1 << 20;

#[cfg(test)]
/// All hosts of a list, in its order. Leading zeroes are kept. `None` for what is no such list.
pub(super) fn expand(text: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for item in items(text)? {
        found.extend(one(item)?);
        if found.len() > MOST {
            return None;
        }
    }
    Some(found)
}

/// The first host of a list, without making the rest.
pub(super) fn first(text: &str) -> Option<String> {
    let item = *items(text)?.first()?;
    let mut host = String::new();
    let mut rest = item;
    while let Some((before, body, after)) = bracket(rest)? {
        host.push_str(before);
        host.push_str(body.split([',', '-']).next()?);
        rest = after;
    }
    host.push_str(rest);
    Some(host)
}

/// `12000-12003,12010` as numbers; the first few are enough.
pub(super) fn ports(text: &str) -> Option<Vec<u16>> {
    let mut found = Vec::new();
    for range in text.split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        found.extend(from.trim().parse::<u16>().ok()?..=to.trim().parse::<u16>().ok()?);
    }
    (!found.is_empty()).then_some(found)
}

/// Splits at the commas outside brackets.
fn items(text: &str) -> Option<Vec<&str>> {
    let (mut found, mut inside, mut from) = (Vec::new(), false, 0);
    for (at, c) in text.char_indices() {
        match c {
            '[' if inside => return None,
            '[' => inside = true,
            ']' if !inside => return None,
            ']' => inside = false,
            ',' if !inside => {
                found.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[from..]);
    let found: Vec<_> = found.into_iter().map(str::trim).filter(|item| !item.is_empty()).collect();
    (!inside && !found.is_empty()).then_some(found)
}

/// What is before the first bracket, in it, and behind it. `None` inside if there is none; outside if it makes no sense.
#[allow(clippy::type_complexity, reason = "three parts of one text")]
fn bracket(text: &str) -> Option<Option<(&str, &str, &str)>> {
    let Some((before, rest)) = text.split_once('[') else { return Some(None) };
    let (body, after) = rest.split_once(']')?;
    let is_list = body.split(',').all(|range| range.split('-').all(is_number));
    is_list.then_some(Some((before, body, after)))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 18 && text.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
fn one(item: &str) -> Option<Vec<String>> {
    let Some((before, body, after)) = bracket(item)? else { return Some(vec![item.into()]) };
    let tails = one(after)?;
    let mut found = Vec::new();
    for range in body.split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (low, high): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
        let count = usize::try_from(high.checked_sub(low)?).ok()?.checked_mul(tails.len())?;
        if found.len() + count > MOST {
            return None;
        }
        let numbers = (low..=high).map(|number| format!("{before}{number:0width$}", width = from.len()));
        found.extend(numbers.flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}"))));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_of_hosts_are_written_out() {
        let all = |text| expand(text).unwrap();
        assert_eq!(all("nid[001-003,007],login1"), ["nid001", "nid002", "nid003", "nid007", "login1"]);
        assert_eq!(all("r[1-2]n[08-10]"), ["r1n08", "r1n09", "r1n10", "r2n08", "r2n09", "r2n10"]);
        assert_eq!(all("x[9-11].cl"), ["x9.cl", "x10.cl", "x11.cl"]);
        assert_eq!(all("a"), ["a"]);
        for wrong in
            ["", "a[", "a]", "a[1-", "a[3-1]", "a[x]", "a[[1]]", "a[0-99999999999]", "a[1-99999999]", "a[1-2-3]"]
        {
            assert_eq!(expand(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ports_are_written_out() {
        assert_eq!(ports("12000-12002"), Some(vec![12000, 12001, 12002]));
        assert_eq!(ports("5,9-10"), Some(vec![5, 9, 10]));
        assert_eq!(ports("70000"), None);
        assert_eq!(ports(""), None);
    }

    proptest! {
        #[test]
        fn the_first_is_the_first_of_all(text in "[a-c]{0,2}(\\[[0-9]{1,2}(-[0-9]{1,2})?\\])?[a-c]?(,[a-c]{1,2}\\[[0-9]{1,2}\\])?") {
            if let Some(all) = expand(&text) {
                prop_assert_eq!(first(&text), all.first().cloned());
            }
        }

        #[test]
        fn nonsense_does_no_harm(text in "[a\\[\\],0-9-]{0,20}") {
            let _ = (expand(&text), first(&text), ports(&text));
        }
    }
}
