//! Conversations as real clients hold them.

use super::super::Ending;
use super::{Play, framed};

#[test]
fn mpich_begins_meets_and_ends() {
    let mut play = Play::new(&[0, 0]);
    for rank in 0..2 {
        let hello = play.ask(rank, "cmd=init pmi_version=1 pmi_subversion=1\n");
        assert_eq!(hello, "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n");
        assert_eq!(play.ask(rank, "cmd=get_maxes\n"), "cmd=maxes rc=0 kvsname_max=256 keylen_max=64 vallen_max=1024\n");
        assert_eq!(play.ask(rank, "cmd=get_appnum\n"), "cmd=appnum rc=0 appnum=0\n");
        assert_eq!(play.ask(rank, "cmd=get_my_kvsname\n"), "cmd=my_kvsname rc=0 kvsname=team\n");
        assert_eq!(play.ask(rank, "cmd=get_universe_size\n"), "cmd=universe_size rc=0 size=2\n");
        let mapping = play.ask(rank, "cmd=get kvsname=team key=PMI_process_mapping\n");
        assert_eq!(mapping, "cmd=get_result rc=0 msg=success value=(vector,(0,1,2))\n");
        let put = format!("cmd=put kvsname=team key=card-{rank} value=a=b c{rank}\n");
        assert_eq!(play.ask(rank, &put), "cmd=put_result rc=0 msg=success\n");
    }
    assert_eq!(play.say(1, b"cmd=barrier_in\n"), []);
    let said = play.say(0, b"cmd=barrier_in\n");
    assert_eq!(said, [(0, "cmd=barrier_out rc=0\n".to_string()), (1, "cmd=barrier_out rc=0\n".into())]);
    assert_eq!(play.ask(0, "cmd=get kvsname=team key=card-1\n"), "cmd=get_result rc=0 msg=success value=a=b c1\n");
    assert_eq!(play.ask(0, "cmd=get kvsname=team key=card-7\n"), "cmd=get_result rc=-1 msg=key_not_found\n");
    for rank in 0..2 {
        assert_eq!(play.ask(rank, "cmd=finalize\n"), "cmd=finalize_ack rc=0 msg=success\n");
        play.share(rank).hung_up(rank);
    }
    assert_eq!((play.carry_out(), play.ended), (vec![], vec![]));
}

#[test]
fn who_calls_a_port_hears_who_it_is() {
    let said = Play::new(&[0, 0]).ask(1, "cmd=initack pmiid=1\n");
    assert_eq!(said, "cmd=initack rc=0\ncmd=set size=2\ncmd=set rank=1\ncmd=set debug=0\n");
}

#[test]
fn version_two_goes_on_in_frames() {
    let mut play = Play::new(&[0, 0]);
    let hello = play.ask(0, "cmd=init pmi_version=2 pmi_subversion=0\n");
    assert_eq!(hello, "cmd=response_to_init pmi_version=2 pmi_subversion=0 rc=0\n");
    let full = play.frame(0, "cmd=fullinit;pmirank=0;threaded=FALSE;");
    let body = "cmd=fullinit-response;rc=0;pmi-version=2;pmi-subversion=0;rank=0;size=2;appnum=0;debugged=FALSE;pmiverbose=FALSE;";
    assert_eq!(full, framed(body));
    assert_eq!(play.frame(0, "cmd=job-getid;thrid=7;"), framed("cmd=job-getid-response;thrid=7;rc=0;jobid=team;"));
    let put = play.frame(0, "cmd=kvs-put;key=k;value=a;;b=c;");
    assert_eq!(put, framed("cmd=kvs-put-response;rc=0;msg=success;"));
    let got = play.frame(0, "cmd=kvs-get;jobid=team;srcid=-1;key=k;");
    assert_eq!(got, framed("cmd=kvs-get-response;rc=0;found=TRUE;value=a;;b=c;"));
    let none = play.frame(0, "cmd=info-getjobattr;key=nothing;");
    assert_eq!(none, framed("cmd=info-getjobattr-response;rc=0;found=FALSE;"));
    assert_eq!(play.frame(0, "cmd=finalize;"), framed("cmd=finalize-response;rc=0;msg=success;"));
}

#[test]
fn a_rank_waits_for_what_another_leaves_on_the_node() {
    let mut play = Play::new(&[0, 0]);
    (0..2).for_each(|rank| drop(play.ask(rank, "cmd=init pmi_version=2 pmi_subversion=0\n")));
    assert_eq!(play.say(1, framed("cmd=info-getnodeattr;key=seg;wait=TRUE;thrid=3;").as_bytes()), []);
    let absent = play.frame(1, "cmd=info-getnodeattr;key=seg;wait=FALSE;");
    assert_eq!(absent, framed("cmd=info-getnodeattr-response;rc=0;found=FALSE;"));
    let said = play.say(0, framed("cmd=info-putnodeattr;key=seg;value=/shm;").as_bytes());
    let told = framed("cmd=info-getnodeattr-response;thrid=3;rc=0;found=TRUE;value=/shm;");
    assert_eq!(said, [(0, framed("cmd=info-putnodeattr-response;rc=0;msg=success;")), (1, told)]);
}

#[test]
fn nodes_learn_at_the_barrier_what_was_left_on_others() {
    let mut play = Play::new(&[0, 1, 0]);
    for rank in 0..3 {
        play.ask(rank, &format!("cmd=put kvsname=team key=k{rank} value=v{rank}\n"));
    }
    assert_eq!(play.ask(0, "cmd=get kvsname=team key=k1\n"), "cmd=get_result rc=-1 msg=key_not_found\n");
    let (mut said, mut share_of_0) = (Vec::new(), play.say(2, b"cmd=barrier_in\n"));
    said.append(&mut share_of_0);
    // The last two come at once: the test's exchange wants both in one go.
    play.share(0).hear(0, b"cmd=barrier_in\n");
    said.extend(play.say(1, b"cmd=barrier_in\n"));
    assert_eq!(said.len(), 3, "{said:?}");
    for (rank, key) in [(0, "k1"), (1, "k0"), (1, "k2"), (2, "k1")] {
        let got = play.ask(rank, &format!("cmd=get kvsname=team key={key}\n"));
        assert!(got.contains("rc=0"), "rank {rank}, {key}: {got}");
    }
}

#[test]
fn published_names_are_the_book_s() {
    let mut play = Play::new(&[0]);
    let found = play.ask(0, "cmd=lookup_name service=ocean\n");
    assert_eq!(found, "cmd=lookup_result info=ok rc=0 msg=success port=port 1\n");
}

#[test]
fn a_spawn_of_several_programs_is_one_request() {
    let block =
        |at: u32| format!("mcmd=spawn\nnprocs=1\nexecname=x\ntotspawns=2\nspawnssofar={at}\nargcnt=0\nendcmd\n");
    let mut play = Play::new(&[0]);
    assert_eq!(play.say(0, block(1).as_bytes()), []);
    assert_eq!(play.ask(0, &block(2)), "cmd=spawn_result rc=-1 msg=not_supported errmsg=not_supported\n");
    assert_eq!(play.ask(0, "cmd=get_appnum\n"), "cmd=appnum rc=0 appnum=0\n");
}

#[test]
fn abort_tells_its_code() {
    let abort = |request: &str, frames: bool| {
        let mut play = Play::new(&[0, 0]);
        if frames {
            play.ask(1, "cmd=init pmi_version=2\n");
        }
        assert_eq!(play.say(1, request.as_bytes()), []);
        play.ended
    };
    let ending = |code, words: &str| vec![Ending::Abort { rank: 1, code, words: words.into() }];
    assert_eq!(abort("cmd=abort exitcode=7\n", false), ending(7, ""));
    assert_eq!(abort("cmd=abort exitcode=much\n", false), ending(1, ""));
    assert_eq!(abort(&framed("cmd=abort;isworld=TRUE;msg=no more;"), true), ending(1, "no more"));
}
