//! Whose the things are that a coordinator keeps in memory, so that nobody fills it alone.
//!
//! A **holder** is a principal, or the address of a peer that nobody has authenticated. Each thing (a group, a transactional id)
//! counts for the holder that made it, and so do its bytes. There is a **total** for all, a **share** of it for each holder, and a
//! **pace** at which a holder may make new things. What was read back at start belongs to nobody, and counts for the total alone,
//! until somebody uses it.
//!
//! A **stranger** is a thing that never did what it is for: a group without members and offsets, a transactional id that never
//! completed a transaction. The one rule of eviction: where a newcomer finds its holder's share full, strangers of that holder make
//! room; where it finds the total full, strangers of the holder that has most of them do; the oldest first. Whoever has done
//! something is never evicted for a newcomer.
//!
//! Pure: time is an argument, and what is evicted is only named here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::types::{Principal, network_name};

/// A holder may make as many things at once as it may in this time.
const BURST: Duration = Duration::from_secs(20);
/// Strangers that are looked at for one newcomer: some of them may be just about to become more.
const CANDIDATES: usize = 8;
/// Between two log lines about refusals.
const LINES_APART: Duration = Duration::from_secs(10);

/// Who something counts for; the default is nobody.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Holder(Arc<str>);

impl Holder {
    /// Peers that nobody has authenticated are told apart by `host`, their address; of IPv6 by its first half, as every peer has
    /// the other half to itself.
    pub fn of(principal: &Principal, host: &str) -> Self {
        if *principal != Principal::anonymous() {
            return Self(principal.to_string().into());
        }
        Self(network_name(host).into())
    }

    fn is_nobody(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.is_nobody() {
            true => f.write_str("nobody"),
            false => f.write_str(&self.0),
        }
    }
}

/// A number, and the setting that holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    pub setting: &'static str,
    pub value: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub total: Bound,
    pub share: Bound,
    /// New things a second.
    pub pace: Bound,
    pub total_bytes: Bound,
    pub share_bytes: Bound,
}

/// What stands in the way of a newcomer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The holder makes new things too fast: it may come again.
    Pace(Bound),
    Share(Bound),
    Total(Bound),
}

impl Refusal {
    pub fn bound(self) -> Bound {
        match self {
            Self::Pace(bound) | Self::Share(bound) | Self::Total(bound) => bound,
        }
    }
}

/// A stranger's place in line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place(u64);

/// Since when each is one, the oldest first.
type Strangers = BTreeMap<Place, (Arc<str>, Duration)>;

#[derive(Debug, Default)]
struct Account {
    things: usize,
    bytes: usize,
    /// When all that was made would have been made, had it come at the pace.
    paced_until: Duration,
    strangers: Strangers,
}

impl Account {
    fn is_idle(&self, now: Duration) -> bool {
        self.things == 0 && self.bytes == 0 && self.paced_until <= now
    }
}

/// What each holder has.
#[derive(Debug)]
pub struct Ledger {
    bounds: Bounds,
    accounts: HashMap<Holder, Account>,
    /// Who has how many strangers, without those who have none.
    by_strangers: BTreeSet<(usize, Holder)>,
    things: usize,
    bytes: usize,
    next_place: u64,
    /// Refusals by the setting that caused them.
    refused: BTreeMap<&'static str, u64>,
    last_line: Option<Duration>,
    /// Refusals that were not logged since.
    left_out: u64,
}

impl Ledger {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            accounts: HashMap::new(),
            by_strangers: BTreeSet::new(),
            things: 0,
            bytes: 0,
            next_place: 0,
            refused: BTreeMap::new(),
            last_line: None,
            left_out: 0,
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How often each setting has refused something.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.refused
            .iter()
            .map(|(setting, count)| (*setting, *count))
    }

    /// May the holder make one more?
    pub fn check(&self, holder: &Holder, now: Duration) -> Result<(), Refusal> {
        let none = Account::default();
        let account = self.accounts.get(holder).unwrap_or(&none);
        self.check_pace(account, now)?;
        if !holder.is_nobody() && account.things >= self.bounds.share.value {
            return Err(Refusal::Share(self.bounds.share));
        }
        match self.things >= self.bounds.total.value {
            true => Err(Refusal::Total(self.bounds.total)),
            false => Ok(()),
        }
    }

    fn check_pace(&self, account: &Account, now: Duration) -> Result<(), Refusal> {
        match account.paced_until <= now + BURST {
            true => Ok(()),
            false => Err(Refusal::Pace(self.bounds.pace)),
        }
    }

    /// As `check`, and counts it.
    pub fn admit(&mut self, holder: &Holder, now: Duration) -> Result<(), Refusal> {
        self.check(holder, now)?;
        self.pace(holder, now)?;
        self.restore(holder);
        Ok(())
    }

    /// Something is made that is not kept: it counts for the pace alone.
    pub fn pace(&mut self, holder: &Holder, now: Duration) -> Result<(), Refusal> {
        let apart = Duration::from_secs(1)
            / u32::try_from(self.bounds.pace.value.max(1)).unwrap_or(u32::MAX);
        let account = self.accounts.entry(holder.clone()).or_default();
        if account.paced_until > now + BURST {
            return Err(Refusal::Pace(self.bounds.pace));
        }
        account.paced_until = account.paced_until.max(now) + apart;
        Ok(())
    }

    /// Counts one, whatever the bounds.
    pub fn restore(&mut self, holder: &Holder) {
        self.accounts.entry(holder.clone()).or_default().things += 1;
        self.things += 1;
    }

    /// One is gone, and its bytes were charged back.
    pub fn release(&mut self, holder: &Holder, now: Duration) {
        self.things = self.things.saturating_sub(1);
        if let Some(account) = self.accounts.get_mut(holder) {
            account.things = account.things.saturating_sub(1);
            if account.is_idle(now) {
                self.accounts.remove(holder);
            }
        }
    }

    /// Something that is nobody's, of so many bytes, is now the holder's. Its share may be exceeded by that: what is there is not
    /// taken away.
    pub fn adopt(&mut self, holder: &Holder, bytes: usize) {
        for (holder, is_new) in [(&Holder::default(), false), (holder, true)] {
            let account = self.accounts.entry(holder.clone()).or_default();
            match is_new {
                true => {
                    account.things += 1;
                    account.bytes += bytes;
                }
                false => {
                    account.things = account.things.saturating_sub(1);
                    account.bytes = account.bytes.saturating_sub(bytes);
                }
            }
        }
    }

    /// May what the holder has grow by so many bytes?
    pub fn check_bytes(&self, holder: &Holder, growth: usize) -> Result<(), Bound> {
        let Bounds {
            total_bytes: total,
            share_bytes: share,
            ..
        } = self.bounds;
        let held = self.accounts.get(holder).map_or(0, |account| account.bytes);
        if growth > 0 && !holder.is_nobody() && held.saturating_add(growth) > share.value {
            return Err(share);
        }
        match growth > 0 && self.bytes.saturating_add(growth) > total.value {
            true => Err(total),
            false => Ok(()),
        }
    }

    /// What had `before` bytes has `after` now.
    pub fn charge(&mut self, holder: &Holder, before: usize, after: usize) {
        if before == after {
            return;
        }
        self.bytes = self.bytes.saturating_sub(before).saturating_add(after);
        let account = self.accounts.entry(holder.clone()).or_default();
        account.bytes = account.bytes.saturating_sub(before).saturating_add(after);
    }

    /// The thing is a stranger from now on.
    fn add_stranger(&mut self, holder: &Holder, id: &Arc<str>, now: Duration) -> Place {
        let place = Place(self.next_place);
        self.next_place += 1;
        self.change_strangers(holder, |strangers| {
            strangers.insert(place, (Arc::clone(id), now));
        });
        place
    }

    fn remove_stranger(&mut self, holder: &Holder, place: Place) {
        self.change_strangers(holder, |strangers| {
            strangers.remove(&place);
        });
    }

    fn change_strangers(&mut self, holder: &Holder, change: impl FnOnce(&mut Strangers)) {
        let account = self.accounts.entry(holder.clone()).or_default();
        let before = account.strangers.len();
        change(&mut account.strangers);
        let after = account.strangers.len();
        self.by_strangers.remove(&(before, holder.clone()));
        if after > 0 {
            self.by_strangers.insert((after, holder.clone()));
        }
    }

    /// Who is to make room for a newcomer that was refused, the oldest first, and since when each is a stranger.
    pub fn strangers(&self, holder: &Holder, refusal: Refusal) -> Vec<(Arc<str>, Duration)> {
        let holder = match refusal {
            Refusal::Pace(_) => None,
            Refusal::Share(_) => Some(holder),
            Refusal::Total(_) => self.by_strangers.last().map(|(_, holder)| holder),
        };
        let account = holder.and_then(|holder| self.accounts.get(holder));
        account.map_or_else(Vec::new, |account| {
            let strangers = account.strangers.values();
            strangers.take(CANDIDATES).cloned().collect()
        })
    }

    /// Counts a refusal. `Some` when it is to be logged: how many were not, since the last one that was.
    pub fn refuse(&mut self, bound: Bound, now: Duration) -> Option<u64> {
        *self.refused.entry(bound.setting).or_default() += 1;
        let is_due = self
            .last_line
            .is_none_or(|last| now.saturating_sub(last) >= LINES_APART);
        if !is_due {
            self.left_out += 1;
            return None;
        }
        self.last_line = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }

    /// Forgets the holders that have nothing any more and were not fast.
    pub fn forget_idle(&mut self, now: Duration) {
        self.accounts.retain(|_, account| !account.is_idle(now));
    }
}

/// How one thing stands in the ledger.
#[derive(Debug, Default)]
pub struct Standing {
    holder: Holder,
    bytes: usize,
    place: Option<Place>,
}

impl Standing {
    /// Of a thing that was admitted.
    pub fn of(holder: Holder) -> Self {
        Self {
            holder,
            ..Self::default()
        }
    }

    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// The thing is what it is now. The ledger is only touched when that makes a difference.
    pub fn update(
        &mut self,
        ledger: &Mutex<Ledger>,
        id: &Arc<str>,
        (bytes, is_stranger): (usize, bool),
        now: Duration,
    ) {
        if bytes == self.bytes && is_stranger == self.place.is_some() {
            return;
        }
        let mut ledger = ledger.lock();
        ledger.charge(&self.holder, self.bytes, bytes);
        self.bytes = bytes;
        match (self.place, is_stranger) {
            (None, true) => self.place = Some(ledger.add_stranger(&self.holder, id, now)),
            (Some(place), false) => {
                ledger.remove_stranger(&self.holder, place);
                self.place = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// Somebody uses it: it is theirs when it was nobody's.
    pub fn adopt(&mut self, ledger: &Mutex<Ledger>, holder: &Holder) {
        if !self.holder.is_nobody() || holder.is_nobody() {
            return;
        }
        let mut ledger = ledger.lock();
        if let Some(place) = self.place.take() {
            ledger.remove_stranger(&self.holder, place);
        }
        ledger.adopt(holder, self.bytes);
        self.holder = holder.clone();
    }

    /// The thing is gone.
    pub fn close(&mut self, ledger: &Mutex<Ledger>, now: Duration) {
        let mut ledger = ledger.lock();
        if let Some(place) = self.place.take() {
            ledger.remove_stranger(&self.holder, place);
        }
        ledger.charge(&self.holder, self.bytes, 0);
        self.bytes = 0;
        ledger.release(&self.holder, now);
    }
}

#[cfg(test)]
mod tests;
