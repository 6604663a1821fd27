//! Who holds how much of a bounded amount, and who is next: the rules alone, without locks and wakers.
//!
//! A **claim** is one thing in memory: a frame that is arriving, an answer on its way out. It grows by **draws** and ends with its
//! release. It is *open* while it still grows and *settled* once it is complete. Each claim is of a **party**: an *account* (one
//! connection) of an *owner* (a principal, or an address), both of which may hold a share of the whole.
//!
//! Invariants: what is held never exceeds the whole, but for `take`, and for one claim that is alone and larger than all there is.
//! Open claims cannot block each other for good: a part of the whole is a **reserve** that one claim at a time, its *holder*, may draw
//! on beyond every share. It is as large as the largest claim, so that the holder completes. Owners wait in turns, and the claims of an
//! owner in their order; one that waits for its own party alone holds up nobody.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub whole: u64,
    /// Of the whole, what only the reserve's holder may draw. 0 where every claim draws once.
    pub reserve: u64,
    /// The most that an owner holds, and one account of it. A claim that is its party's only one may exceed them.
    pub owner: u64,
    pub account: u64,
}

/// Whose a claim is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Party {
    pub owner: u64,
    pub account: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Claim {
    pub(super) id: u64,
    pub(super) party: Party,
    pub(super) held: u64,
    is_open: bool,
}

/// What a draw asks for: at least so much, and at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub least: u64,
    pub most: u64,
}

impl Wanted {
    pub fn exactly(amount: u64) -> Self {
        Self {
            least: amount,
            most: amount,
        }
    }
}

/// A draw that waited and has been granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Grant {
    pub(super) claim: u64,
    pub(super) amount: u64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Tally {
    open: u64,
    settled: u64,
}

impl Tally {
    fn all(self) -> u64 {
        self.open + self.settled
    }

    /// What a bound leaves to a claim that holds `held` of this tally. Alone it always gets what it needs.
    fn room(self, bound: u64, held: u64, least: u64) -> u64 {
        let room = bound.saturating_sub(self.all());
        if self.all() == held {
            room.max(least)
        } else {
            room
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    claim: Claim,
    wanted: Wanted,
    since: Instant,
}

/// What keeps a draw waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blocked {
    Account,
    Owner,
    Whole,
}

#[derive(Debug)]
pub(super) struct Ledger {
    bounds: Bounds,
    used: u64,
    last_id: u64,
    holder: Option<u64>,
    holder_waits: Option<Waiting>,
    owners: HashMap<u64, Tally>,
    accounts: HashMap<u64, Tally>,
    waiting: HashMap<u64, VecDeque<Waiting>>,
    /// Owners that wait, the next one first.
    turns: VecDeque<u64>,
    is_pressed: bool,
}

impl Ledger {
    pub(super) fn new(bounds: Bounds) -> Self {
        let whole = bounds.whole.max(1);
        let bounds = Bounds {
            whole,
            reserve: bounds.reserve.min(whole),
            ..bounds
        };
        Self {
            bounds,
            used: 0,
            last_id: 0,
            holder: None,
            holder_waits: None,
            owners: HashMap::new(),
            accounts: HashMap::new(),
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            is_pressed: false,
        }
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn whole(&self) -> u64 {
        self.bounds.whole
    }

    /// Whether a draw waits for others than its own connection.
    pub(super) fn is_pressed(&self) -> bool {
        self.is_pressed
    }

    pub(super) fn open(&mut self, party: Party) -> Claim {
        self.last_id += 1;
        Claim {
            id: self.last_id,
            party,
            held: 0,
            is_open: true,
        }
    }

    /// Draws at once, or waits in line: `next` says when it is granted.
    pub(super) fn draw(&mut self, claim: &mut Claim, wanted: Wanted, now: Instant) -> Option<u64> {
        let waiting = Waiting {
            claim: *claim,
            wanted,
            since: now,
        };
        let may_draw = self.turns.is_empty() || self.holder == Some(claim.id);
        let fitting = may_draw.then(|| self.fit(&waiting));
        if let Some(Ok(amount)) = fitting {
            self.add(claim.party, amount, true);
            claim.held += amount;
            return Some(amount);
        }
        if self.holder == Some(claim.id) {
            self.holder_waits = Some(waiting);
            self.is_pressed = true;
            return None;
        }
        let owner = claim.party.owner;
        let line = self.waiting.entry(owner).or_default();
        if line.is_empty() {
            self.turns.push_back(owner);
        }
        line.push_back(waiting);
        None
    }

    /// Gives up a draw that waits.
    pub(super) fn cancel(&mut self, claim: &Claim) {
        if self
            .holder_waits
            .is_some_and(|waits| waits.claim.id == claim.id)
        {
            self.holder_waits = None;
        }
        let owner = claim.party.owner;
        if let Some(line) = self.waiting.get_mut(&owner) {
            line.retain(|waiting| waiting.claim.id != claim.id);
            if line.is_empty() {
                self.waiting.remove(&owner);
                self.turns.retain(|other| *other != owner);
            }
        }
    }

    /// Takes without asking: for what is in memory already.
    pub(super) fn take(&mut self, claim: &mut Claim, amount: u64) {
        self.add(claim.party, amount, claim.is_open);
        claim.held += amount;
    }

    /// The claim is complete: what it holds will be given back whatever others do.
    pub(super) fn settle(&mut self, claim: &mut Claim) {
        if claim.is_open {
            self.remove(claim.party, claim.held, true);
            self.add(claim.party, claim.held, false);
            claim.is_open = false;
        }
        if self.holder == Some(claim.id) {
            self.holder = None;
        }
    }

    pub(super) fn release(&mut self, claim: &mut Claim, amount: u64) {
        let amount = amount.min(claim.held);
        self.remove(claim.party, amount, claim.is_open);
        claim.held -= amount;
        if claim.held == 0 && self.holder == Some(claim.id) {
            self.holder = None;
        }
    }

    /// Draws that waited and can now be granted.
    pub(super) fn next(&mut self) -> Vec<Grant> {
        let mut grants = Vec::new();
        self.is_pressed = false;
        if let Some(waiting) = self.holder_waits {
            match self.fit(&waiting) {
                Ok(amount) => {
                    self.holder_waits = None;
                    grants.push(self.grant(&waiting, amount));
                }
                Err(_) => self.is_pressed = true,
            }
        }
        let mut passed_over = 0;
        while passed_over < self.turns.len() {
            let Some(owner) = self.turns.pop_front() else {
                break;
            };
            match self.next_of(owner) {
                Ok(grant) => {
                    grants.push(grant);
                    passed_over = 0;
                    if self.waiting.contains_key(&owner) {
                        self.turns.push_back(owner);
                    }
                }
                Err(Blocked::Whole) => {
                    // Nobody overtakes: who needs much would otherwise never get it.
                    self.is_pressed = true;
                    self.turns.push_front(owner);
                    break;
                }
                Err(blocked) => {
                    self.is_pressed |= blocked == Blocked::Owner;
                    self.turns.push_back(owner);
                    passed_over += 1;
                }
            }
        }
        grants
    }

    /// How long the longest draw has waited that no share holds up.
    pub(super) fn longest_wait(&self, now: Instant) -> Duration {
        let waiting = self.waiting.values().flatten().chain(&self.holder_waits);
        waiting
            .filter(|waiting| self.fit(waiting) == Err(Blocked::Whole))
            .map(|waiting| now.saturating_duration_since(waiting.since))
            .max()
            .unwrap_or_default()
    }

    /// The first of an owner's draws that can be granted.
    fn next_of(&mut self, owner: u64) -> Result<Grant, Blocked> {
        let line = self.waiting.get(&owner).into_iter().flatten();
        let mut outcome = Err(Blocked::Account);
        for (index, waiting) in line.enumerate() {
            match self.fit(waiting) {
                Err(Blocked::Account) => {}
                Err(blocked) if self.may_hold(waiting) => {
                    // What others still hold of the reserve is settled, and will be given back.
                    outcome = match self.fit_holder(waiting) {
                        Some(amount) => Ok((index, amount, true)),
                        None => Err(blocked),
                    };
                    break;
                }
                Err(blocked) => {
                    outcome = Err(blocked);
                    break;
                }
                Ok(amount) => {
                    outcome = Ok((index, amount, false));
                    break;
                }
            }
        }
        let (index, amount, holds) = outcome?;
        let line = self.waiting.get_mut(&owner);
        let waiting = line.and_then(|line| line.remove(index));
        if self.waiting.get(&owner).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(&owner);
        }
        let waiting = waiting.ok_or(Blocked::Account)?;
        if holds {
            self.holder = Some(waiting.claim.id);
        }
        Ok(self.grant(&waiting, amount))
    }

    fn grant(&mut self, waiting: &Waiting, amount: u64) -> Grant {
        self.add(waiting.claim.party, amount, true);
        Grant {
            claim: waiting.claim.id,
            amount,
        }
    }

    /// Whether the reserve is free, and what the claim's party has complete within its shares.
    fn may_hold(&self, waiting: &Waiting) -> bool {
        let party = waiting.claim.party;
        self.holder.is_none()
            && self.bounds.reserve > 0
            && tally(&self.owners, party.owner).settled <= self.bounds.owner
            && tally(&self.accounts, party.account).settled <= self.bounds.account
    }

    fn fit_holder(&self, waiting: &Waiting) -> Option<u64> {
        let Waiting { claim, wanted, .. } = waiting;
        let whole = Tally {
            open: self.used,
            settled: 0,
        };
        let room = whole.room(self.bounds.whole, claim.held, wanted.least);
        (room >= wanted.least).then(|| wanted.most.min(room))
    }

    /// How much of what a draw wants fits now.
    fn fit(&self, waiting: &Waiting) -> Result<u64, Blocked> {
        let Waiting { claim, wanted, .. } = waiting;
        if self.holder == Some(claim.id) {
            return self.fit_holder(waiting).ok_or(Blocked::Whole);
        }
        let Bounds {
            whole,
            reserve,
            owner,
            account,
        } = self.bounds;
        let used = Tally {
            open: self.used,
            settled: 0,
        };
        let rooms = [
            (
                tally(&self.accounts, claim.party.account),
                account,
                Blocked::Account,
            ),
            (
                tally(&self.owners, claim.party.owner),
                owner,
                Blocked::Owner,
            ),
            (used, whole - reserve, Blocked::Whole),
        ];
        let mut amount = wanted.most;
        for (tally, bound, blocked) in rooms {
            amount = amount.min(tally.room(bound, claim.held, wanted.least));
            if amount < wanted.least {
                return Err(blocked);
            }
        }
        Ok(amount)
    }

    fn add(&mut self, party: Party, amount: u64, is_open: bool) {
        self.used += amount;
        for (tallies, key) in [
            (&mut self.owners, party.owner),
            (&mut self.accounts, party.account),
        ] {
            let tally = tallies.entry(key).or_default();
            match is_open {
                true => tally.open += amount,
                false => tally.settled += amount,
            }
        }
    }

    fn remove(&mut self, party: Party, amount: u64, is_open: bool) {
        self.used -= amount;
        for (tallies, key) in [
            (&mut self.owners, party.owner),
            (&mut self.accounts, party.account),
        ] {
            let Some(tally) = tallies.get_mut(&key) else {
                continue;
            };
            match is_open {
                true => tally.open -= amount,
                false => tally.settled -= amount,
            }
            if tally.all() == 0 {
                tallies.remove(&key);
            }
        }
    }
}

fn tally(tallies: &HashMap<u64, Tally>, key: u64) -> Tally {
    tallies.get(&key).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
