//! What clients of both wires say, and what they must be answered.

mod places;
mod rules;
mod wires;

use super::{Deed, Ending, Share, Team};

/// The shares of a team, and what was to be done for each.
struct Play {
    shares: Vec<Share>,
    team: Team,
    ended: Vec<Ending>,
}

impl Play {
    /// A team whose rank `r` is on node `nodes[r]`.
    fn new(nodes: &[u32]) -> Play {
        let team = Team::new("team".into(), nodes);
        let shares = (0..team.nodes()).map(|place| Share::new(team.clone(), place)).collect();
        Play { shares, team, ended: Vec::new() }
    }

    fn share(&mut self, rank: u32) -> &mut Share {
        let place = self.team.place(rank).unwrap();
        &mut self.shares[place as usize]
    }

    /// All that is said to anybody because of this.
    fn say(&mut self, rank: u32, bytes: &[u8]) -> Vec<(u32, String)> {
        self.share(rank).hear(rank, bytes);
        self.carry_out()
    }

    /// The only answer, to the rank itself.
    fn ask(&mut self, rank: u32, request: &str) -> String {
        let said = self.say(rank, request.as_bytes());
        assert_eq!(said.len(), 1, "{request}: {said:?}");
        assert_eq!(said[0].0, rank);
        said[0].1.clone()
    }

    fn frame(&mut self, rank: u32, body: &str) -> String {
        self.ask(rank, &framed(body))
    }

    /// What nodes exchange is exchanged at once, when all have come.
    fn carry_out(&mut self) -> Vec<(u32, String)> {
        let (mut said, mut meeting) = (Vec::new(), Vec::new());
        for share in &mut self.shares {
            while let Some(deed) = share.poll() {
                match deed {
                    Deed::Say { rank, bytes } => said.push((rank, String::from_utf8(bytes).unwrap())),
                    Deed::Meet { round, news } => meeting.push((round, news)),
                    Deed::Ask { ticket, .. } => share.told(ticket, Ok(Some("port 1".into()))),
                    Deed::End(ending) => self.ended.push(ending),
                    Deed::HangUp { .. } => {}
                }
            }
        }
        // A share keeps its place until the others are there: the test has them come in one go.
        if meeting.len() == self.shares.len() {
            let all: Vec<_> = meeting.iter().flat_map(|(_, news)| news.clone()).collect();
            meeting.iter().zip(&mut self.shares).for_each(|((round, _), share)| share.met(*round, Ok(&all)));
            said.extend(self.carry_out());
        }
        said
    }
}

fn framed(body: &str) -> String {
    format!("{:<6}{body}", body.len())
}
