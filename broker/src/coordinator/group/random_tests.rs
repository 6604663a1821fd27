//! Random clients against one group. The seed is printed; `TIDEGATE_SEED` replays it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::world::*;
use super::*;
use crate::coordinator::JoinRequest;

/// SplitMix64: small, seeded, good enough to choose among actions.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[derive(Default)]
struct Client {
    member_id: String,
    instance: Option<String>,
    generation: i32,
    joining: Option<(Waiter, Duration)>,
    syncing: Option<(Waiter, Duration)>,
}

/// Which members an action may end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Removes {
    Nothing,
    One,
    Late,
}

/// A member before an action.
#[derive(Debug)]
struct Before {
    session_deadline: Duration,
    is_joining: bool,
    is_new: bool,
    /// The group waits for it to join or to sync.
    is_awaited: bool,
}

struct Check {
    world: World,
    random: Random,
    clients: Vec<Client>,
    /// Generation to the protocol and leader that its members were told.
    told: BTreeMap<i32, (String, String)>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Check {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let clients = (0..2 + random.below(6))
            .map(|index| Client {
                instance: (random.below(3) == 0).then(|| format!("i{}", index / 2)),
                ..Client::default()
            })
            .collect();
        let mut world = World::new();
        world.stores_at_once = random.below(2) == 0;
        Self {
            world,
            random,
            clients,
            told: BTreeMap::new(),
        }
    }

    fn request(&mut self, index: usize) -> JoinRequest {
        let client = &self.clients[index];
        let mut names = vec!["common"];
        names.insert(
            self.random.below(2) as usize,
            NAMES[self.random.below(3) as usize],
        );
        JoinRequest {
            member_id: client.member_id.clone(),
            instance_id: client.instance.clone(),
            protocols: protocols(&names),
            require_known_member_id: self.random.below(2) == 0,
            ..joining()
        }
    }

    fn act(&mut self) -> Removes {
        let index = self.random.below(self.clients.len() as u64) as usize;
        match self.random.below(12) {
            // A join under an instance id takes another member's place.
            0..=3 => return self.join(index),
            4..=6 => self.sync(index),
            7..=8 => self.heartbeat(index),
            9 if self.random.below(4) == 0 => {
                self.leave(index);
                return Removes::One;
            }
            // The process ends without a word, and begins anew.
            9 if self.random.below(4) == 0 => self.forget(index),
            10 if !self.world.tickets.is_empty() => {
                let fails = self.random.below(8) == 0;
                self.world.stored(match fails {
                    true => Err(GroupError::Storage("disk".into())),
                    false => Ok(()),
                });
            }
            _ => {
                let pass = 1 + self.random.below(SESSION / 3);
                self.world.pass(pass);
                return Removes::Late;
            }
        }
        Removes::Nothing
    }

    fn join(&mut self, index: usize) -> Removes {
        if self.clients[index].joining.is_some() {
            return Removes::Nothing;
        }
        let request = self.request(index);
        let waiter = self.world.join(&request);
        self.clients[index].joining = Some((waiter, self.world.now.elapsed));
        match request.member_id.is_empty() && request.instance_id.is_some() {
            true => Removes::One,
            false => Removes::Nothing,
        }
    }

    fn sync(&mut self, index: usize) {
        let client = &self.clients[index];
        if client.joining.is_some() || client.syncing.is_some() || client.generation == 0 {
            return;
        }
        let (id, generation) = (client.member_id.clone(), client.generation);
        let waiter = self.world.sync(&id, generation);
        self.clients[index].syncing = Some((waiter, self.world.now.elapsed));
    }

    fn heartbeat(&mut self, index: usize) {
        let client = &self.clients[index];
        let (id, generation) = (client.member_id.clone(), client.generation);
        let answer = self.world.heartbeat(&id, generation);
        if matches!(answer, Ok(()) | Err(GroupError::RebalanceInProgress)) {
            let member = &self.world.group.members[&id];
            let session = Duration::from_millis(SESSION);
            assert!(member.session_deadline >= self.world.now.elapsed + session);
        }
    }

    fn leave(&mut self, index: usize) {
        let id = self.clients[index].member_id.clone();
        let _ = self.world.leave(&id);
        self.forget(index);
    }

    fn forget(&mut self, index: usize) {
        let instance = self.clients[index].instance.take();
        self.clients[index] = Client {
            instance,
            ..Client::default()
        };
    }

    /// Hands the answers to the clients that wait for them.
    fn collect(&mut self) {
        for client in &mut self.clients {
            if let Some((waiter, _)) = client.joining
                && let Some(answer) = self.world.joins.get(&waiter)
            {
                client.joining = None;
                match answer {
                    Ok(outcome) => {
                        client.member_id.clone_from(&outcome.member_id);
                        client.generation = outcome.generation;
                        let told = (outcome.protocol.clone(), outcome.protocol_type.clone());
                        let first = self.told.entry(outcome.generation).or_insert(told.clone());
                        assert_eq!(*first, told, "generation {}", outcome.generation);
                    }
                    Err(GroupError::MemberIdRequired(id)) => client.member_id.clone_from(id),
                    Err(_) => client.member_id.clear(),
                }
            }
            if let Some((waiter, _)) = client.syncing
                && let Some(answer) = self.world.syncs.get(&waiter)
            {
                client.syncing = None;
                if let Ok(outcome) = answer {
                    let generation = format!("in {}", client.generation);
                    let text = String::from_utf8_lossy(&outcome.assignment);
                    // A member that joined the generation after its leader assigned has nothing to do.
                    assert!(text.is_empty() || text.ends_with(&generation), "{text}");
                }
            }
        }
    }

    fn check_waiting(&self) {
        // A store that the test has not ended yet may hold an answer back for as long as it likes.
        let bound = Duration::from_millis(REBALANCE + SESSION);
        if !self.world.tickets.is_empty() {
            return;
        }
        for client in &self.clients {
            for (waiter, since) in client.joining.iter().chain(&client.syncing) {
                let waited = self.world.now.elapsed - *since;
                assert!(waited <= bound, "{waiter:?} has waited for {waited:?}");
            }
        }
    }

    /// Members go for a reason: they left, were replaced, did not come back in time, or were silent for a session.
    fn check_members(&mut self, before: &BTreeMap<String, Before>, removes: Removes) {
        let now = self.world.now.elapsed;
        let present = &self.world.group.members;
        for (id, member) in before.iter().filter(|(id, _)| !present.contains_key(*id)) {
            let is_silent = member.session_deadline <= now;
            let has_reason = match removes {
                Removes::Nothing => false,
                Removes::One => true,
                Removes::Late if member.is_joining => member.is_new && is_silent,
                Removes::Late => is_silent || member.is_awaited,
            };
            assert!(has_reason, "member {id} was lost: {member:?}");
        }
        let lost = before.len() - before.keys().filter(|id| present.contains_key(*id)).count();
        assert!(lost <= 1 || removes == Removes::Late, "{lost} members went");
    }

    fn before(&self) -> BTreeMap<String, Before> {
        let is_preparing = matches!(self.world.group.state, State::Preparing { .. });
        let members = self.world.group.members.iter();
        members
            .map(|(id, member)| {
                let before = Before {
                    session_deadline: member.session_deadline,
                    is_joining: member.is_joining(),
                    is_new: member.is_new,
                    is_awaited: is_preparing || !member.has_synced,
                };
                (id.clone(), before)
            })
            .collect()
    }

    fn check_group(&self) {
        let group = &self.world.group;
        match &group.state {
            State::Stable { .. } => {
                assert!(!group.members.is_empty());
                let record = self.world.records.last().unwrap();
                assert_eq!(record.generation, group.generation);
                let of_generation = format!("in {}", group.generation);
                for member in group.members.values() {
                    assert!(member.sync_waiter.is_none());
                    let assignment = String::from_utf8_lossy(&member.assignment);
                    assert!(assignment.ends_with(&of_generation), "{assignment}");
                }
            }
            State::Empty => assert!(group.members.is_empty() && group.leader.is_none()),
            State::Completing { .. } => {
                assert!(group.members.values().all(|m| !m.is_joining()));
            }
            State::Preparing { .. } => {
                assert!(group.members.values().all(|m| m.sync_waiter.is_none()));
            }
            State::Dead => unreachable!("nobody deletes it"),
        }
        if !group.members.is_empty() {
            let leader = group
                .leader
                .as_ref()
                .expect("a group with members has a leader");
            assert!(group.members.contains_key(leader));
            assert!(group.select_protocol().is_some(), "one protocol in common");
        }
        for (instance, id) in &group.static_members {
            let member = group.members.get(id).expect("a static member is a member");
            assert_eq!(member.instance_id.as_ref(), Some(instance));
        }
        let exact = group.earliest_deadline();
        assert!(exact.is_none() || group.wake_at() <= exact, "wakes in time");
    }

    /// Every client stops acting: whatever waits is answered, and the group ends up empty.
    fn drain(&mut self) {
        while !self.world.tickets.is_empty() {
            self.world.stored(Ok(()));
        }
        self.world.stores_at_once = true;
        self.world.pass(3 * (REBALANCE + 300_000));
        self.collect();
        for client in &self.clients {
            assert!(client.joining.is_none() && client.syncing.is_none());
        }
        assert_eq!(self.world.state(), "Empty");
        assert!(self.world.group.is_vacant());
        assert_eq!(self.world.group.earliest_deadline(), None);
    }
}

/// How many generations became stable.
fn run(seed: u64) -> usize {
    let mut check = Check::new(seed);
    let mut stable = BTreeSet::new();
    for _ in 0..400 {
        let before = check.before();
        let removes = check.act();
        check.collect();
        check.check_group();
        check.check_waiting();
        check.check_members(&before, removes);
        if check.world.state() == "Stable" {
            stable.insert(check.world.group.generation);
        }
    }
    check.drain();
    stable.len()
}

#[test]
fn random_clients_never_wedge_the_group() {
    if let Ok(seed) = std::env::var("TIDEGATE_SEED") {
        run(seed.parse().expect("TIDEGATE_SEED is a number"));
        return;
    }
    let first = u64::from_le_bytes(crate::env::random_bytes());
    let mut stable = 0;
    for seed in (0..300).map(|index| first.wrapping_add(index)) {
        println!("TIDEGATE_SEED={seed}");
        stable += run(seed);
    }
    println!("{stable} generations became stable");
    assert!(stable > 300, "the clients get somewhere: {stable}");
}
