use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn bound(setting: &'static str, value: usize) -> Bound {
    Bound { setting, value }
}

fn bounds() -> Bounds {
    Bounds {
        total: bound("total", 6),
        share: bound("share", 3),
        pace: bound("pace", 1),
        total_bytes: bound("total-bytes", 100),
        share_bytes: bound("share-bytes", 40),
    }
}

fn user(name: &str) -> Holder {
    Holder::of(&Principal::user(name), "10.0.0.1")
}

fn refused_by(outcome: Result<(), Refusal>) -> &'static str {
    outcome.map_or_else(|refusal| refusal.bound().setting, |()| "admitted")
}

/// A thing of a holder, as a driver keeps it.
struct Thing {
    id: Arc<str>,
    standing: Standing,
}

struct World {
    ledger: Mutex<Ledger>,
    now: Duration,
}

impl World {
    fn new() -> Self {
        Self {
            ledger: Mutex::new(Ledger::new(bounds())),
            now: SECOND * 1000,
        }
    }

    #[track_caller]
    fn make(&mut self, id: &str, holder: &str, is_stranger: bool) -> Thing {
        self.now += SECOND;
        let admitted = self.ledger.lock().admit(&user(holder), self.now);
        assert_eq!(refused_by(admitted), "admitted", "{id}");
        let mut thing = Thing {
            id: id.into(),
            standing: Standing::of(user(holder)),
        };
        self.update(&mut thing, 1, is_stranger);
        thing
    }

    fn update(&self, thing: &mut Thing, bytes: usize, is_stranger: bool) {
        let now = (bytes, is_stranger);
        thing
            .standing
            .update(&self.ledger, &thing.id, now, self.now);
    }

    fn close(&self, mut thing: Thing) {
        thing.standing.close(&self.ledger, self.now);
    }

    fn refusal(&self, holder: &str) -> &'static str {
        refused_by(self.ledger.lock().check(&user(holder), self.now))
    }

    /// Who would make room for a newcomer of this holder.
    fn strangers(&self, holder: &str) -> Vec<String> {
        let ledger = self.ledger.lock();
        let Err(refusal) = ledger.check(&user(holder), self.now) else {
            panic!("nothing stands in the way of {holder}");
        };
        let strangers = ledger.strangers(&user(holder), refusal);
        strangers.iter().map(|(id, _)| id.to_string()).collect()
    }
}

#[test]
fn a_holder_is_a_principal_or_else_an_address() {
    let alice = Principal::user("alice");
    let nobody = Principal::anonymous();
    let table = [
        (&alice, "10.0.0.1", "User:alice"),
        (&alice, "10.0.0.2", "User:alice"),
        (&nobody, "10.0.0.1", "10.0.0.1"),
        (&nobody, "::ffff:10.0.0.1", "10.0.0.1"),
        (&nobody, "::1", "::1"),
        (&nobody, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (&nobody, "2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        (&nobody, "2001:db8:1:3::1", "2001:db8:1:3::/64"),
        (&nobody, "somewhere", "somewhere"),
    ];
    for (principal, host, expected) in table {
        let holder = Holder::of(principal, host);
        assert_eq!(holder.to_string(), expected, "{principal} at {host}");
        assert!(!holder.is_nobody());
    }
}

#[test]
fn a_full_share_leaves_the_rest_of_the_total_to_others() {
    let mut world = World::new();
    let mut things: Vec<Thing> = ["1", "2", "3"]
        .iter()
        .map(|id| world.make(id, "greedy", false))
        .collect();
    assert_eq!(world.refusal("greedy"), "share");
    things.extend(["4", "5"].map(|id| world.make(id, "honest", false)));
    things.push(world.make("6", "third", false));
    for holder in ["honest", "third", "newcomer"] {
        assert_eq!(world.refusal(holder), "total");
    }
    assert_eq!(
        world.refusal("greedy"),
        "share",
        "its own bound comes first"
    );
    world.close(things.remove(0));
    for holder in ["greedy", "newcomer"] {
        assert_eq!(world.refusal(holder), "admitted", "{holder}");
    }
}

#[test]
fn new_things_come_at_a_pace_whether_they_are_kept_or_not() {
    let mut world = World::new();
    let at_once = (BURST.as_secs() + 1) as usize;
    for made in 0..at_once {
        let outcome = world.ledger.lock().pace(&user("fast"), world.now);
        assert_eq!(refused_by(outcome), "admitted", "{made}");
    }
    for _ in 0..2 {
        let outcome = world.ledger.lock().pace(&user("fast"), world.now);
        assert_eq!(refused_by(outcome), "pace", "a refusal does not count");
        assert_eq!(world.refusal("fast"), "pace");
        assert_eq!(world.refusal("slow"), "admitted");
    }
    world.now += SECOND;
    let admitted = world.ledger.lock().admit(&user("fast"), world.now);
    assert_eq!(refused_by(admitted), "admitted");
    assert_eq!(world.refusal("fast"), "pace", "one a second");
}

#[test]
fn strangers_make_room_the_oldest_first_and_only_where_it_is_wanted() {
    let mut world = World::new();
    let mut one = world.make("one", "greedy", true);
    let _two = world.make("two", "greedy", true);
    let _known = world.make("known", "greedy", false);
    let _other = world.make("other", "honest", true);
    assert_eq!(
        world.strangers("greedy"),
        ["one", "two"],
        "its share is full"
    );
    world.update(&mut one, 1, false);
    assert_eq!(world.strangers("greedy"), ["two"], "one did something");
    world.update(&mut one, 1, true);
    assert_eq!(world.strangers("greedy"), ["two", "one"]);
    let _fifth = world.make("fifth", "honest", true);
    let _sixth = world.make("sixth", "third", false);
    let total = ["greedy", "honest", "third", "newcomer"].map(|holder| world.strangers(holder));
    let expected: [&[&str]; 4] = [
        &["two", "one"],
        // Honest has as many strangers as greedy, and comes behind it by name.
        &["other", "fifth"],
        &["other", "fifth"],
        &["other", "fifth"],
    ];
    assert_eq!(total, expected);
    world.close(one);
    let _seventh = world.make("seventh", "third", false);
    assert_eq!(world.strangers("newcomer"), ["other", "fifth"]);
    assert_eq!(
        world
            .ledger
            .lock()
            .strangers(&user("greedy"), Refusal::Pace(bounds().pace)),
        [],
        "the pace makes no room"
    );
}

#[test]
fn what_is_nobodys_counts_for_the_total_alone_until_it_is_used() {
    let world = World::new();
    let nobody = Holder::default();
    let mut restored: Vec<Thing> = (0..6)
        .map(|id| {
            world.ledger.lock().restore(&nobody);
            let mut thing = Thing {
                id: id.to_string().into(),
                standing: Standing::default(),
            };
            world.update(&mut thing, 15, id == 0);
            thing
        })
        .collect();
    assert_eq!(world.refusal("user"), "total");
    assert_eq!(world.strangers("user"), ["0"], "left by the last run");
    for thing in restored.iter_mut().take(4) {
        for holder in ["user", "other"] {
            thing.standing.adopt(&world.ledger, &user(holder));
        }
        assert_eq!(
            thing.standing.holder(),
            &user("user"),
            "the first to use it"
        );
        world.update(thing, 15, false);
    }
    assert_eq!(world.ledger.lock().bytes(), 90);
    assert_eq!(world.refusal("user"), "share", "4 of 3 are not taken away");
    let grown = world.ledger.lock().check_bytes(&user("user"), 1);
    assert_eq!(grown, Err(bounds().share_bytes));
    restored.into_iter().for_each(|thing| world.close(thing));
    let ledger = world.ledger.lock();
    assert_eq!((ledger.things, ledger.bytes()), (0, 0));
    assert!(ledger.by_strangers.is_empty());
}

#[test]
fn bytes_are_bounded_for_a_holder_and_for_all() {
    let mut world = World::new();
    let mut things = ["a", "b", "c"].map(|holder| world.make(holder, holder, false));
    let check = |holder: &str, growth| world.ledger.lock().check_bytes(&user(holder), growth);
    world.update(&mut things[0], 40, false);
    world.update(&mut things[1], 40, false);
    world.update(&mut things[2], 15, false);
    let table = [
        ("a", 0, Ok(())),
        ("a", 1, Err(bounds().share_bytes)),
        ("c", 5, Ok(())),
        ("c", 6, Err(bounds().total_bytes)),
        ("newcomer", 6, Err(bounds().total_bytes)),
        ("newcomer", 0, Ok(())),
    ];
    for (holder, growth, expected) in table {
        assert_eq!(check(holder, growth), expected, "{holder} by {growth}");
    }
    world.update(&mut things[0], 10, false);
    assert_eq!(check("a", 30), Ok(()));
    assert_eq!(check("a", 31), Err(bounds().share_bytes));
}

#[test]
fn few_refusals_are_logged_and_all_are_counted() {
    let mut ledger = Ledger::new(bounds());
    let Bounds { share, total, .. } = bounds();
    assert_eq!(ledger.refuse(share, Duration::ZERO), Some(0));
    assert_eq!(ledger.refuse(share, SECOND), None);
    assert_eq!(ledger.refuse(total, SECOND), None);
    assert_eq!(ledger.refuse(total, LINES_APART), Some(2));
    assert_eq!(ledger.refuse(total, LINES_APART), None);
    let counts: Vec<_> = ledger.refused().collect();
    assert_eq!(counts, [("share", 2), ("total", 3)]);
}

#[test]
fn a_holder_without_anything_is_forgotten_when_its_pace_allows() {
    let mut world = World::new();
    let thing = world.make("one", "a", true);
    world.close(thing);
    assert_eq!(
        world.ledger.lock().accounts.len(),
        1,
        "it made one just now"
    );
    let later = world.now + SECOND;
    world.ledger.lock().forget_idle(later);
    assert_eq!(world.ledger.lock().accounts.len(), 0);
}
