use super::*;

#[test]
fn the_pace_lets_a_burst_through_and_then_only_its_rate() {
    let mut pace = Pace::default();
    pace.spend(PACE_BURST_BYTES);
    assert_eq!(pace.wait_ms(0), 0);
    pace.spend(PACE_BYTES_PER_MS * 100);
    assert_eq!(pace.wait_ms(0), 100);
    assert_eq!(pace.wait_ms(60), 40);
    assert_eq!(pace.wait_ms(100), 0);
    pace.spend(PACE_BYTES_PER_MS * 10);
    assert_eq!(pace.wait_ms(u64::MAX), 0);
}

#[test]
fn an_encoder_is_logged_as_its_network() {
    let shown_of = |text: &str| shown(text.parse().expect("an address"));
    assert_eq!(shown_of("203.0.113.77:50000"), "203.0.113.0/24");
    assert_eq!(shown_of("[::ffff:203.0.113.77]:50000"), "203.0.113.0/24");
    assert_eq!(shown_of("[2001:db8:1:2:3::4]:50000"), "2001:db8:1::/48");
}

#[test]
fn refusals_carry_the_code_that_encoders_know_and_their_words() {
    let limit = Refusal::from(LimitReached { max: 5, running: 5 }).rejection();
    assert_eq!(limit.code, "NetStream.Publish.BadName");
    assert_eq!(limit.description, "Maximum 5 concurrent streams reached");
    assert_eq!(Refusal::UnknownKey.rejection().code, "NetStream.Publish.Unauthorized");
}
