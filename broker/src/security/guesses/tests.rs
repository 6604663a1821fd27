use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const START: TimestampMs = 1_700_000_000_000;

fn guesses() -> Guesses {
    Guesses::new([7; 32])
}

/// Fails so often at once.
fn fail(guesses: &mut Guesses, now: TimestampMs, address: IpAddr, user: &str, times: usize) {
    for _ in 0..times {
        let _ = guesses.failed(now, address, user);
    }
}

/// What an attempt that waits for nobody else is told.
fn asked(guesses: &mut Guesses, now: TimestampMs, address: IpAddr, user: &str) -> Admission {
    let admission = guesses.admit(now, address, user);
    if admission != Admission::Refused {
        guesses.left(address);
    }
    admission
}

fn waits(admission: Admission) -> u128 {
    match admission {
        Admission::Now => 0,
        Admission::After(wait) => wait.as_millis(),
        Admission::Refused => panic!("refused"),
    }
}

#[test]
fn ten_failures_in_a_minute_are_free_and_the_next_cost_more_and_more() {
    let mut guesses = guesses();
    let mut told = Vec::new();
    for _ in 0..18 {
        told.push(waits(asked(&mut guesses, START, HERE, "alice")));
        fail(&mut guesses, START, HERE, "alice", 1);
    }
    assert_eq!(told[..11], [0; 11]);
    // One after the other, and none longer than the longest.
    assert_eq!(told[11..], [100, 300, 700, 1500, 3100, 5000, 5000]);
}

#[test]
fn time_forgives() {
    let mut guesses = guesses();
    fail(&mut guesses, START, HERE, "alice", 12);
    assert!(waits(asked(&mut guesses, START, HERE, "alice")) > 0);
    let later = START + 2 * OF_PAIR.forgiven_after_ms;
    assert_eq!(asked(&mut guesses, later, HERE, "alice"), Admission::Now);
    fail(&mut guesses, later, HERE, "alice", 1);
    assert!(
        waits(asked(&mut guesses, later, HERE, "alice")) > 0,
        "the rest is still owed"
    );
    // However much has failed, it is forgiven in bounded time.
    fail(&mut guesses, later, HERE, "alice", 100_000);
    let later = later + 4 * i64::from(OF_ADDRESS.failures) * OF_PAIR.forgiven_after_ms;
    assert_eq!(asked(&mut guesses, later, HERE, "alice"), Admission::Now);
}

#[test]
fn a_clock_that_is_set_back_forgives_nothing_and_holds_nobody_up() {
    let mut guesses = guesses();
    fail(&mut guesses, START, HERE, "alice", 20);
    let before = START - 3_600_000;
    let wait = waits(asked(&mut guesses, before, HERE, "alice"));
    assert!((1..=5000).contains(&wait), "{wait} ms");
}

#[test]
fn who_guesses_one_user_slows_neither_other_users_nor_the_same_user_elsewhere() {
    let mut guesses = guesses();
    fail(&mut guesses, START, HERE, "alice", 30);
    assert!(waits(asked(&mut guesses, START, HERE, "alice")) > 0);
    assert_eq!(asked(&mut guesses, START, HERE, "bob"), Admission::Now);
    assert_eq!(asked(&mut guesses, START, THERE, "alice"), Admission::Now);
}

#[test]
fn who_tries_many_users_from_one_address_is_slowed_and_so_is_who_tries_one_from_many() {
    let mut guesses = guesses();
    for number in 0..60 {
        fail(&mut guesses, START, HERE, &format!("user-{number}"), 1);
    }
    assert!(waits(asked(&mut guesses, START, HERE, "another")) > 0);
    assert_eq!(asked(&mut guesses, START, THERE, "another"), Admission::Now);

    for number in 0..60 {
        let address = IpAddr::from([10, 1, 0, number]);
        fail(&mut guesses, START, address, "alice", 1);
    }
    assert!(waits(asked(&mut guesses, START, THERE, "alice")) > 0);
    assert_eq!(asked(&mut guesses, START, THERE, "bob"), Admission::Now);
}

#[test]
fn the_right_password_settles_the_users_debt_at_the_address_and_no_other() {
    let mut guesses = guesses();
    fail(&mut guesses, START, HERE, "alice", 30);
    guesses.succeeded(HERE, "alice");
    assert_eq!(asked(&mut guesses, START, HERE, "alice"), Admission::Now);

    // An account of one's own buys no guesses at others.
    for _ in 0..60 {
        fail(&mut guesses, START, HERE, "bob", 1);
        guesses.succeeded(HERE, "mallory");
    }
    assert!(waits(asked(&mut guesses, START, HERE, "mallory")) > 0);
}

#[test]
fn attempts_that_wait_are_bounded_by_address() {
    let mut guesses = guesses();
    fail(&mut guesses, START, HERE, "alice", 20);
    for _ in 0..MAX_WAITING {
        assert!(waits(guesses.admit(START, HERE, "alice")) <= 5000);
    }
    assert_eq!(guesses.admit(START, HERE, "alice"), Admission::Refused);
    assert_eq!(asked(&mut guesses, START, THERE, "alice"), Admission::Now);
    assert_eq!(
        asked(&mut guesses, START, HERE, "bob"),
        Admission::Now,
        "who need not wait is not refused"
    );
    guesses.left(HERE);
    assert!(waits(asked(&mut guesses, START, HERE, "alice")) > 0);
    for _ in 1..MAX_WAITING {
        guesses.left(HERE);
    }
    assert!(guesses.waiting.is_empty());
}

#[test]
fn a_large_debt_outlives_any_number_of_small_ones() {
    let mut guesses = guesses();
    fail(&mut guesses, START, HERE, "alice", 20);
    for number in 0..30_000_u32 {
        let address = IpAddr::from((0x0b00_0000 + number).to_be_bytes());
        fail(&mut guesses, START, address, &format!("user-{number}"), 1);
    }
    assert!(waits(asked(&mut guesses, START, HERE, "alice")) > 0);
    assert_eq!(guesses.debts.len(), PLACES, "the table does not grow");
}

#[test]
fn the_addresses_of_one_network_are_one() {
    let mut guesses = guesses();
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    fail(&mut guesses, START, address("2001:db8::1"), "alice", 20);
    let neighbour = address("2001:db8::ffff:1");
    assert!(waits(asked(&mut guesses, START, neighbour, "alice")) > 0);
    let elsewhere = address("2001:db8:0:1::1");
    assert_eq!(
        asked(&mut guesses, START, elsewhere, "alice"),
        Admission::Now
    );
    fail(&mut guesses, START, HERE, "bob", 20);
    let mapped = address("::ffff:10.0.0.1");
    assert!(waits(asked(&mut guesses, START, mapped, "bob")) > 0);
}

#[test]
fn the_log_gets_so_many_lines_a_second_and_is_told_what_was_left_out() {
    let mut guesses = guesses();
    let lines: Vec<_> = (0..100)
        .filter_map(|_| guesses.failed(START, HERE, "alice"))
        .collect();
    assert_eq!(lines, [0; LINES as usize]);
    let later = START + LINES_INTERVAL_MS;
    assert_eq!(guesses.failed(later, HERE, "alice"), Some(90));
}
