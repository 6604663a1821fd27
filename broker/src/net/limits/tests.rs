use super::*;

fn admission(max_connections: usize, max_per_ip: usize) -> Arc<Admission> {
    Admission::new(&NetConfig {
        max_connections,
        max_connections_per_ip: max_per_ip,
        ..NetConfig::default()
    })
}

fn newcomer(ip: &str, listener: usize) -> Newcomer {
    Newcomer {
        peer: SocketAddr::new(ip.parse().unwrap(), 1),
        listener,
        max_of_listener: 4,
        may_go: true,
    }
}

fn gone(slot: &Slot) -> bool {
    slot.seat.gone.is_cancelled()
}

#[tokio::test(start_paused = true)]
async fn each_bound_refuses_by_its_name_and_takes_nothing() {
    for (total, of_listener, of_ip, reason) in [
        (2, 9, 9, "too-many-connections"),
        (9, 2, 9, "too-many-connections-of-listener"),
        (9, 9, 2, "too-many-connections-of-address"),
    ] {
        let admission = admission(total, of_ip);
        let newcomer = Newcomer {
            max_of_listener: of_listener,
            ..newcomer("10.0.0.1", 7)
        };
        let admit = || admission.admit(newcomer).map(|(slot, _)| slot);
        let (first, second) = (admit().unwrap(), admit().unwrap());
        let full = admit().unwrap_err();
        assert_eq!((full.reason, full.bound), (reason, 2));
        drop(first);
        let third = admit().unwrap();
        assert!(admit().is_err(), "{reason}");
        drop((second, third));
        let open = admission.open.lock();
        assert_eq!((open.total, open.by_ip.len()), (0, 0));
        assert_eq!(open.by_listener[&7], 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_address_with_the_most_makes_room_for_one_with_fewer() {
    for (total, reason) in [
        (4, "too-many-connections"),
        (9, "too-many-connections-of-listener"),
    ] {
        let admission = admission(total, 9);
        let crowd: Vec<Slot> = (0..4)
            .map(|_| admission.admit(newcomer("10.0.0.1", 7)).unwrap().0)
            .collect();
        let elsewhere = (total > 4).then(|| admission.admit(newcomer("10.0.0.1", 8)).unwrap().0);
        // The second has never asked for anything, and of the others the third not for longest.
        tokio::time::advance(Duration::from_millis(10)).await;
        crowd[2].seat.mark(Instant::now());
        tokio::time::advance(Duration::from_millis(10)).await;
        crowd[0].seat.mark(Instant::now());
        crowd[3].seat.mark(Instant::now());
        let (first, closed) = admission.admit(newcomer("10.0.0.2", 7)).unwrap();
        assert_eq!(closed.map(|closed| closed.bound.reason), Some(reason));
        let (second, _) = admission.admit(newcomer("10.0.0.3", 7)).unwrap();
        let who: Vec<bool> = crowd.iter().map(gone).collect();
        assert_eq!(who, [false, true, true, false], "{reason}");
        assert!(!elsewhere.as_ref().is_some_and(gone));
        // Now nobody has more than a newcomer would, but one of the crowd.
        assert!(admission.admit(newcomer("10.0.0.2", 7)).is_err());
        assert!(admission.admit(newcomer("10.0.0.1", 7)).is_err());
        drop((crowd, first, second, elsewhere));
        assert_eq!(admission.open.lock().total, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn within_an_address_the_quiet_ones_make_room_and_no_others() {
    let admission = admission(9, 2);
    let admit = || admission.admit(newcomer("10.0.0.1", 7));
    let (talks, silent) = (admit().unwrap().0, admit().unwrap().0);
    talks.seat.mark(Instant::now());
    assert!(admit().is_err(), "it has had no time to say anything");
    tokio::time::advance(FIRST_WORD).await;
    let (newer, closed) = admit().unwrap();
    assert!(closed.is_some() && gone(&silent) && !gone(&talks));
    assert!(admit().is_err());
    newer.seat.mark(Instant::now());
    tokio::time::advance(NEXT_WORD).await;
    newer.seat.mark(Instant::now());
    assert!(admit().is_ok());
    assert!(gone(&talks) && !gone(&newer));
}

#[tokio::test(start_paused = true)]
async fn what_others_stand_on_does_not_go() {
    let admission = admission(9, 1);
    let connection = Newcomer {
        may_go: false,
        ..newcomer("10.0.0.1", 7)
    };
    let (_slot, _) = admission.admit(connection).unwrap();
    tokio::time::advance(NEXT_WORD).await;
    assert!(admission.admit(newcomer("10.0.0.1", 7)).is_err());
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
