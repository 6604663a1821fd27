use super::*;

fn admission(max_connections: usize, max_per_ip: usize) -> Arc<Admission> {
    Admission::new(&NetConfig {
        max_connections,
        max_connections_per_ip: max_per_ip,
        ..NetConfig::default()
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn each_bound_refuses_by_its_name_and_takes_nothing() {
    for (total, of_listener, of_ip, reason) in [
        (2, 9, 9, "too-many-connections"),
        (9, 2, 9, "too-many-connections-of-listener"),
        (9, 9, 2, "too-many-connections-of-address"),
    ] {
        let admission = admission(total, of_ip);
        let listener = Arc::default();
        let admit = || admission.admit(&listener, of_listener, ip("10.0.0.1"));
        let (first, second) = (admit().unwrap(), admit().unwrap());
        let full = admit().unwrap_err();
        assert_eq!((full.reason, full.bound), (reason, 2));
        drop(first);
        let third = admit().unwrap();
        assert!(admit().is_err(), "{reason}");
        drop((second, third));
        assert_eq!(admission.open.load(Ordering::Relaxed), 0);
        assert_eq!(listener.load(Ordering::Relaxed), 0);
        assert!(admission.by_ip.lock().is_empty());
    }
}

#[test]
fn addresses_count_by_customer() {
    for (one, other, same) in [
        ("10.0.0.1", "10.0.0.1", true),
        ("10.0.0.1", "10.0.0.2", false),
        ("10.0.0.1", "::ffff:10.0.0.1", true),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
    ] {
        assert_eq!(
            network(ip(one)) == network(ip(other)),
            same,
            "{one} {other}"
        );
    }
}

#[test]
fn bytes_in_flight_are_bounded_and_strangers_have_their_own_share() {
    let bytes = InFlightBytes::new(64 << 10);
    let now = |reserved| match reserved {
        Reserved::Now(permit) => Some(permit),
        Reserved::Later(..) => None,
    };
    let strangers = now(bytes.reserve(8 << 10, false)).unwrap();
    assert!(now(bytes.reserve(1, false)).is_none());
    let half = now(bytes.reserve(50 << 10, true)).unwrap();
    assert!(now(bytes.reserve((6 << 10) + 1, true)).is_none());
    let rest = now(bytes.reserve(6 << 10, true)).unwrap();
    assert!(now(bytes.reserve(1, true)).is_none());
    drop((half, rest, strangers));
    // Larger than all there is: passes when nothing else is in flight.
    let whole = now(bytes.reserve(1 << 30, true)).unwrap();
    assert!(now(bytes.reserve(1, true)).is_none());
    drop(whole);
    assert!(now(bytes.reserve(1, true)).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_log_hears_of_a_reason_once_a_second() {
    let log = LogThrottle::default();
    let start = Instant::now();
    assert_eq!(log.admit("a", start), Some(0));
    assert_eq!(log.admit("a", start), None);
    assert_eq!(log.admit("b", start), Some(0));
    assert_eq!(log.admit("a", start + LOG_INTERVAL / 2), None);
    assert_eq!(log.admit("a", start + LOG_INTERVAL), Some(2));
    assert_eq!(log.admit("a", start + LOG_INTERVAL * 2), Some(0));
}
