//! What holds whatever comes: nothing panics, nothing grows without end, nobody waits for who is gone.

use proptest::{collection::vec, prelude::*};

use super::super::limits::{REQUEST_MOST, VALUE_MOST};
use super::super::{Deed, Ending, Share, Team};
use super::{Play, framed};

fn requests() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("cmd=init pmi_version=1 pmi_subversion=1\n".to_string()),
        Just("cmd=init pmi_version=2\n".to_string()),
        "cmd=put kvsname=x key=[a-c] value=[ -~]{0,20}\n",
        "cmd=get kvsname=x key=[a-c]\n",
        Just("cmd=barrier_in\n".to_string()),
        Just("mcmd=spawn\nendcmd\n".to_string()),
        "cmd=(abort|finalize|lookup_name|what) [ -~]{0,20}\n",
        "cmd=(kvs-put|kvs-get|kvs-fence|info-getnodeattr|info-putnodeattr);key=[a-c];value=[;-~]{0,9};wait=1;"
            .prop_map(|body| framed(&body)),
    ];
    prop_oneof![9 => line.prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..40)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever ranks send, they are answered or the team ends, once, and after that nothing is done.
    #[test]
    fn no_rubbish_does_harm(said in vec((0..3u32, requests()), 0..40), gone in vec(0..3u32, 0..2)) {
        let mut share = Share::new(Team::new("team".into(), &[0, 0, 0]), 0);
        let mut ends = 0;
        for (rank, bytes) in said {
            share.hear(rank, &bytes);
            while let Some(deed) = share.poll() {
                let is_end = matches!(deed, Deed::End(_));
                prop_assert!(ends == 0 || !is_end);
                ends += u32::from(is_end);
            }
        }
        gone.into_iter().for_each(|rank| share.hung_up(rank));
        prop_assert!(std::iter::from_fn(|| share.poll()).filter(|deed| matches!(deed, Deed::End(_))).count() <= 1);
    }

    /// How the bytes are cut makes no difference.
    #[test]
    fn bytes_may_come_in_any_pieces(said in vec(requests(), 0..12), cuts in vec(1..9usize, 1..20)) {
        let all = said.concat();
        let mut whole = Play::new(&[0]).say(0, &all);
        let mut play = Play::new(&[0]);
        let (mut pieces, mut rest, mut cuts) = (Vec::new(), &all[..], cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            pieces.extend(play.say(0, piece));
            rest = after;
        }
        // The book answers in its own time: in another place among the answers, or never if rubbish has ended the team by then.
        for answers in [&mut pieces, &mut whole] {
            answers.retain(|(_, line)| !line.contains("_result "));
        }
        prop_assert_eq!(pieces, whole);
    }

    /// Any value comes back as it was put, in frames whatever it holds.
    #[test]
    fn values_come_back(value in "[ -~]{1,200}") {
        let mut play = Play::new(&[0]);
        play.ask(0, "cmd=init pmi_version=2\n");
        let escaped = value.replace(';', ";;");
        let put = play.frame(0, &format!("cmd=kvs-put;value={escaped};key=k;"));
        prop_assert!(put.contains("rc=0"));
        let got = play.frame(0, "cmd=kvs-get;key=k;");
        prop_assert_eq!(got, framed(&format!("cmd=kvs-get-response;rc=0;found=TRUE;value={escaped};")));
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let mut play = Play::new(&[0]);
    let mut put = |key: usize, value: usize| {
        play.ask(0, &format!("cmd=put kvsname=x key={} value={}\n", "k".repeat(key), "v".repeat(value)))
    };
    assert!(put(64, VALUE_MOST).contains("rc=0"));
    assert!(put(65, 1).contains("key_too_long") && put(1, VALUE_MOST + 1).contains("value_too_long"));
    assert!(put(0, 1).contains("a_key_is_missing"));
    play.ask(0, "cmd=init pmi_version=2\n");
    assert!(play.frame(0, "cmd=kvs-put;key=k;value=a\nb;").contains("no_lines_in_values"));
}

#[test]
fn a_request_without_an_end_ends_the_team() {
    let nonsense = |bytes: &[u8], frames: bool| {
        let mut play = Play::new(&[0]);
        if frames {
            play.ask(0, "cmd=init pmi_version=2\n");
        }
        play.say(0, bytes);
        matches!(play.ended[..], [Ending::Nonsense { rank: 0, .. }])
    };
    assert!(nonsense(&vec![b'x'; REQUEST_MOST + 1], false) && nonsense(b"\xff\xfe\n", false));
    assert!(nonsense(b"no command\n", false) && nonsense(b"999999cmd=x;", true) && nonsense(b"minus cmd=x;", true));
}

#[test]
fn nobody_waits_for_one_who_is_gone() {
    for begins in [true, false] {
        let mut play = Play::new(&[0, 0]);
        if begins {
            play.ask(1, "cmd=init pmi_version=1\n");
        }
        play.say(0, b"cmd=barrier_in\n");
        play.share(1).hung_up(1);
        assert_eq!(play.carry_out(), []);
        assert_eq!(play.ended, [Ending::Left { rank: 1 }]);
    }
    let mut late = Play::new(&[0, 0]);
    late.share(1).hung_up(1);
    late.carry_out();
    assert_eq!(late.ended, [], "one that never began is missed by nobody yet");
    late.say(0, b"cmd=barrier_in\n");
    assert_eq!(late.ended, [Ending::Left { rank: 1 }]);
}

#[test]
fn a_cut_between_nodes_ends_the_team() {
    let mut play = Play::new(&[0, 1]);
    play.say(0, b"cmd=barrier_in\n");
    play.share(0).met(1, Err("node 1 is lost".into()));
    play.carry_out();
    assert_eq!(play.ended, [Ending::Cut { why: "node 1 is lost".into() }]);
}
