use super::*;

const BOUNDS: Bounds = Bounds {
    whole: 100,
    reserve: 40,
    owner: 30,
    account: 20,
};

fn party(owner: u64, account: u64) -> Party {
    Party { owner, account }
}

/// A ledger beside what its claims believe to hold.
struct Book {
    ledger: Ledger,
    claims: Vec<Claim>,
    start: Instant,
}

impl Book {
    fn new(bounds: Bounds) -> Self {
        Self {
            ledger: Ledger::new(bounds),
            claims: Vec::new(),
            start: Instant::now(),
        }
    }

    fn open(&mut self, party: Party) -> usize {
        self.claims.push(self.ledger.open(party));
        self.claims.len() - 1
    }

    /// Draws as the pool does; true when it was granted at once.
    fn draw(&mut self, claim: usize, least: u64, most: u64) -> bool {
        let before = self.claims[claim].held;
        let wanted = Wanted { least, most };
        let drawn = self
            .ledger
            .draw(&mut self.claims[claim], wanted, self.start);
        if drawn.is_none() {
            self.next();
        }
        self.claims[claim].held > before
    }

    fn next(&mut self) {
        for Grant { claim, amount } in self.ledger.next() {
            let claim = self.claims.iter_mut().find(|one| one.id == claim);
            claim.expect("the claim is known").held += amount;
        }
    }

    fn release(&mut self, claim: usize, amount: u64) {
        self.ledger.release(&mut self.claims[claim], amount);
        self.next();
    }

    fn settle(&mut self, claim: usize) {
        self.ledger.settle(&mut self.claims[claim]);
        self.next();
    }

    fn held(&self, claim: usize) -> u64 {
        self.claims[claim].held
    }
}

#[test]
fn shares_bind_but_for_a_claim_that_is_alone() {
    for (what, other, amount, granted) in [
        ("within every share", party(1, 1), 5, true),
        ("over the account's share", party(1, 1), 16, false),
        ("over the owner's share", party(1, 2), 26, false),
        ("over no share of its own", party(2, 3), 25, true),
        ("over its shares, but alone", party(2, 3), 50, true),
    ] {
        let mut book = Book::new(Bounds {
            reserve: 0,
            ..BOUNDS
        });
        let first = book.open(party(1, 1));
        assert!(book.draw(first, 5, 5));
        let second = book.open(other);
        assert_eq!(book.draw(second, amount, amount), granted, "{what}");
        if !granted {
            book.release(first, 5);
            assert_eq!(book.held(second), amount, "{what}: later");
        }
    }
}

#[test]
fn a_draw_takes_what_there_is_between_its_least_and_its_most() {
    let mut book = Book::new(Bounds {
        reserve: 0,
        owner: 100,
        account: 60,
        ..BOUNDS
    });
    let first = book.open(party(1, 1));
    assert!(book.draw(first, 1, 1000));
    assert_eq!(book.held(first), 60, "the account's share");
    let second = book.open(party(2, 2));
    assert!(book.draw(second, 1, 1000));
    assert_eq!(book.held(second), 40, "what was left");
    let third = book.open(party(3, 3));
    assert!(!book.draw(third, 1, 1000));
    book.release(first, 10);
    assert_eq!(book.held(third), 10);
}

#[test]
fn nobody_overtakes_who_waits_for_the_whole_and_owners_take_turns() {
    let mut book = Book::new(Bounds {
        reserve: 0,
        owner: 100,
        account: 100,
        ..BOUNDS
    });
    let all = book.open(party(9, 9));
    assert!(book.draw(all, 100, 100));
    let waiting: Vec<usize> = [(1, 1), (1, 2), (1, 3), (2, 4)]
        .into_iter()
        .map(|(owner, account)| book.open(party(owner, account)))
        .collect();
    for claim in &waiting {
        assert!(!book.draw(*claim, 30, 30));
    }
    let held = |book: &Book| -> Vec<u64> { waiting.iter().map(|one| book.held(*one)).collect() };
    book.release(all, 29);
    assert_eq!(held(&book), [0, 0, 0, 0]);
    let small = book.open(party(3, 5));
    assert!(!book.draw(small, 1, 1), "though it would fit");
    book.release(all, 1);
    assert_eq!(held(&book), [30, 0, 0, 0]);
    book.release(all, 31);
    assert_eq!(held(&book), [30, 0, 0, 30], "the other owner is next");
    assert_eq!(book.held(small), 1);
    book.release(all, 39);
    assert_eq!(held(&book), [30, 30, 0, 30]);
}

#[test]
fn who_waits_for_its_own_connection_holds_up_nobody_and_presses_nobody() {
    let mut book = Book::new(BOUNDS);
    let (first, second) = (book.open(party(1, 1)), book.open(party(1, 1)));
    assert!(book.draw(first, 20, 20));
    book.settle(first);
    assert!(!book.draw(second, 5, 5));
    assert!(!book.ledger.is_pressed());
    let neighbour = book.open(party(1, 2));
    assert!(book.draw(neighbour, 5, 5));
    let other = book.open(party(2, 3));
    assert!(book.draw(other, 20, 20));
    book.release(first, 20);
    assert_eq!(book.held(second), 5);
}

#[test]
fn open_claims_that_block_each_other_complete_one_by_one_on_the_reserve() {
    let mut book = Book::new(BOUNDS);
    let claims: Vec<usize> = (0..4)
        .map(|number| book.open(party(number, number)))
        .collect();
    for claim in &claims {
        assert!(book.draw(*claim, 15, 15));
    }
    // All of the free part is taken, and each needs as much as the reserve is.
    for claim in &claims {
        book.draw(*claim, 25, 25);
    }
    let held = |place: usize| book.held(claims[place]);
    assert_eq!((held(0), held(1)), (40, 15), "the first holds the reserve");
    assert!(book.ledger.is_pressed());
    for claim in &claims {
        assert_eq!(book.held(*claim), 40);
        book.settle(*claim);
        assert!(book.ledger.used() <= BOUNDS.whole);
        book.release(*claim, 40);
    }
    assert_eq!(book.ledger.used(), 0);
    assert!(!book.ledger.is_pressed());
}

#[test]
fn two_frames_of_one_owner_get_through_although_each_wants_more_than_its_share() {
    let mut book = Book::new(BOUNDS);
    let (first, second) = (book.open(party(1, 1)), book.open(party(1, 2)));
    assert!(book.draw(first, 15, 15));
    assert!(book.draw(second, 15, 15));
    assert!(book.draw(first, 25, 25), "on the reserve");
    assert!(!book.draw(second, 25, 25));
    assert!(book.ledger.is_pressed(), "it waits for another connection");
    // Another owner has all of the free part that is left, at once.
    let other = book.open(party(2, 3));
    assert!(book.draw(other, 5, 5));
    book.settle(first);
    book.release(first, 40);
    assert_eq!(book.held(second), 40);
}

#[test]
fn a_reserve_is_not_for_those_who_hold_their_share_complete() {
    let mut book = Book::new(BOUNDS);
    let hoard = book.open(party(1, 1));
    assert!(book.draw(hoard, 31, 31));
    book.settle(hoard);
    let more = book.open(party(1, 2));
    assert!(!book.draw(more, 10, 10));
    let honest: Vec<usize> = (2..4)
        .map(|number| book.open(party(number, number)))
        .collect();
    for claim in &honest {
        assert!(book.draw(*claim, 14, 14));
    }
    assert!(book.draw(honest[0], 26, 26), "the reserve is free for it");
    assert_eq!(book.held(more), 0);
}

#[test]
fn a_claim_larger_than_all_there_is_passes_alone() {
    let mut book = Book::new(BOUNDS);
    let huge = book.open(party(1, 1));
    for _ in 0..5 {
        assert!(book.draw(huge, 50, 50));
    }
    let other = book.open(party(2, 2));
    assert!(!book.draw(other, 1, 1));
    book.settle(huge);
    book.release(huge, 250);
    assert_eq!((book.held(other), book.ledger.used()), (1, 1));
}

#[test]
fn only_a_wait_for_the_whole_tells_of_starvation() {
    let mut book = Book::new(BOUNDS);
    let later = book.start + Duration::from_secs(9);
    let (first, second) = (book.open(party(1, 1)), book.open(party(1, 1)));
    assert!(book.draw(first, 20, 20));
    book.settle(first);
    assert!(!book.draw(second, 5, 5));
    assert_eq!(book.ledger.longest_wait(later), Duration::ZERO);
    let taken = book.open(party(5, 5));
    book.ledger.take(&mut book.claims[taken], 80);
    let starved = book.open(party(2, 2));
    assert!(!book.draw(starved, 5, 5));
    assert_eq!(book.ledger.longest_wait(later), Duration::from_secs(9));
    let given_up = book.claims[starved];
    book.ledger.cancel(&given_up);
    assert_eq!(book.ledger.longest_wait(later), Duration::ZERO);
}

/// Frames of a few owners that arrive in steps, are answered, and now and then given up: whatever the order, no bound is passed and
/// everything that is waited for comes.
#[test]
fn whatever_the_order_no_bound_is_passed_and_nobody_waits_for_ever() {
    for seed in 1..200_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut dice = |sides: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % sides
        };
        let mut book = Book::new(BOUNDS);
        let mut goals: Vec<(usize, u64)> = Vec::new();
        for step in 0..400 {
            if step < 200 && goals.len() < 12 {
                let account = dice(8);
                let claim = book.open(party(account / 3, 1000 + step));
                goals.push((claim, 1 + dice(40)));
            }
            if goals.is_empty() {
                break;
            }
            let at = dice(goals.len() as u64) as usize;
            let (claim, goal) = goals[at];
            let waits = book.waits(claim);
            if dice(20) == 0 {
                let given_up = book.claims[claim];
                book.ledger.cancel(&given_up);
                book.release(claim, given_up.held);
                goals.swap_remove(at);
            } else if !waits && book.held(claim) < goal {
                let amount = (goal - book.held(claim)).min(1 + dice(10));
                book.draw(claim, amount, amount);
            } else if !waits {
                book.settle(claim);
                book.release(claim, goal);
                goals.swap_remove(at);
            }
            let held: u64 = book.claims.iter().map(|claim| claim.held).sum();
            assert_eq!(held, book.ledger.used(), "seed {seed}");
            assert!(held <= BOUNDS.whole, "seed {seed}: {held}");
            let stuck = goals.iter().all(|(claim, _)| book.waits(*claim));
            assert!(goals.is_empty() || !stuck, "seed {seed}: all of them wait");
        }
    }
}

impl Book {
    fn waits(&self, claim: usize) -> bool {
        let id = self.claims[claim].id;
        let ledger = &self.ledger;
        let waiting = ledger.waiting.values().flatten();
        waiting
            .chain(&ledger.holder_waits)
            .any(|waiting| waiting.claim.id == id)
    }
}
