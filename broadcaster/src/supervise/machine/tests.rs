//! Scenarios of hls.md and faults.md, one sentence each. Random ones are in `scripts`.
use super::*;

mod scripts;

const PUSHED: Policy = Policy {
    pushed: true,
    grace_ms: 120_000,
    stream_timeout_ms: 3_600_000,
    segment_ms: 2_000,
    force_kill_ms: 5_000,
};
const OWN: Policy = Policy { pushed: false, ..PUSHED };
const FIRST: ConnectionId = ConnectionId(1);
const SECOND: ConnectionId = ConnectionId(2);

/// A machine with its clock, whose outputs are read as they come.
struct Rig {
    machine: Machine,
    now: Now,
}

impl Rig {
    fn new(policy: Policy) -> Self {
        Self { machine: Machine::new(policy, Now(0)), now: Now(0) }
    }

    /// A pushed stream on the air with worker 1 and connection 1.
    fn live() -> Self {
        let mut rig = Self::new(PUSHED);
        rig.input(Input::OperatorStart);
        rig.input(Input::PublisherConnected(FIRST));
        rig.input(Input::WorkerReady(WorkerId(1)));
        assert_eq!(rig.machine.state(), State::Live);
        rig
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        self.machine.handle(self.now, input);
        let timeout = self.machine.poll_timeout();
        assert!(timeout.is_none_or(|(at, _)| at > self.now), "{timeout:?} was not done");
        std::iter::from_fn(|| self.machine.poll_output()).collect()
    }

    /// Lets `ms` pass, waking the machine exactly when it asks to be woken.
    fn pass(&mut self, ms: u64) -> Vec<Output> {
        let end = self.now.plus(ms);
        let mut outputs = Vec::new();
        while let Some((at, _)) = self.machine.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = at;
            outputs.extend(self.input(Input::Tick));
        }
        self.now = end;
        outputs
    }

    /// Lets `ms` pass while the publisher sends ten times a second.
    fn pass_with_media(&mut self, ms: u64, from: ConnectionId) -> Vec<Output> {
        let mut outputs = Vec::new();
        for _ in 0..ms / 100 {
            outputs.extend(self.input(Input::PublisherMedia(from)));
            outputs.extend(self.pass(100));
        }
        outputs
    }

    fn exited(&mut self, worker: u64) -> Vec<Output> {
        self.input(Input::WorkerExited { worker: WorkerId(worker), how: "signal 9".into() })
    }

    fn failed(&mut self, worker: u64, code: FailCode) -> Vec<Output> {
        let message = "the worker's words".to_owned();
        self.input(Input::WorkerFailed { worker: WorkerId(worker), code, message })
    }
}

fn started(outputs: &[Output]) -> Option<u64> {
    outputs.iter().find_map(|o| match o {
        Output::StartWorker(id) => Some(id.0),
        _ => None,
    })
}

#[test]
fn a_publisher_starts_a_worker_whose_readiness_begins_broadcast_and_session() {
    let mut rig = Rig::new(PUSHED);
    assert_eq!(rig.input(Input::OperatorStart), [Output::State(State::Waiting, Cause::NoMediaYet)]);
    assert_eq!(
        rig.input(Input::PublisherConnected(FIRST)),
        [Output::AttachPublisher(FIRST), Output::StartWorker(WorkerId(1))]
    );
    assert_eq!(
        rig.input(Input::WorkerReady(WorkerId(1))),
        [
            Output::BeginBroadcast,
            Output::BeginSession(WorkerId(1)),
            Output::State(State::Live, Cause::OnAir)
        ]
    );
}

#[test]
fn the_encoder_drops_and_returns_within_grace_to_a_new_session_of_the_same_broadcast() {
    let mut rig = Rig::live();
    assert_eq!(
        rig.input(Input::PublisherGone(FIRST)),
        [Output::DrainWorker(WorkerId(1)), Output::State(State::Grace, Cause::PublisherGone)]
    );
    rig.pass(100);
    assert_eq!(rig.input(Input::WorkerDrained(WorkerId(1))), [Output::EndSession(WorkerId(1))]);
    assert_eq!(rig.exited(1), []);
    assert_eq!(rig.pass(119_000), []);
    assert_eq!(
        rig.input(Input::PublisherConnected(SECOND)),
        [Output::AttachPublisher(SECOND), Output::StartWorker(WorkerId(2))]
    );
    assert_eq!(
        rig.input(Input::WorkerReady(WorkerId(2))),
        [Output::BeginSession(WorkerId(2)), Output::State(State::Live, Cause::OnAir)]
    );
}

#[test]
fn the_broadcast_ends_after_grace_and_the_next_publisher_begins_another() {
    let mut rig = Rig::live();
    rig.input(Input::PublisherGone(FIRST));
    rig.input(Input::WorkerDrained(WorkerId(1)));
    rig.exited(1);
    assert_eq!(
        rig.pass(120_000),
        [Output::EndBroadcast(Cause::GraceOver), Output::State(State::Ended, Cause::GraceOver)]
    );
    assert_eq!(rig.pass(3_600_000), [Output::FreeStream]);
    assert_eq!(started(&rig.input(Input::PublisherConnected(SECOND))), Some(2));
    assert!(rig.input(Input::WorkerReady(WorkerId(2))).contains(&Output::BeginBroadcast));
}

#[test]
fn a_drain_that_never_ends_is_cut_terminated_and_killed() {
    let mut rig = Rig::live();
    rig.input(Input::PublisherGone(FIRST));
    assert_eq!(
        rig.pass(DRAIN_MAX_MS),
        [Output::EndSession(WorkerId(1)), Output::TerminateWorker(WorkerId(1))]
    );
    assert_eq!(rig.pass(4_999), []);
    assert_eq!(rig.pass(1), [Output::KillWorker(WorkerId(1))]);
    assert!(!rig.machine.is_quiet(), "it is still awaited");
    rig.exited(1);
    assert!(rig.machine.is_quiet());
}

#[test]
fn without_a_grace_period_the_last_parts_still_come() {
    let mut rig = Rig::new(Policy { grace_ms: 0, ..PUSHED });
    rig.input(Input::OperatorStart);
    rig.input(Input::PublisherConnected(FIRST));
    rig.input(Input::WorkerReady(WorkerId(1)));
    rig.input(Input::PublisherGone(FIRST));
    assert_eq!(rig.pass(DRAIN_MAX_MS - 1), []);
    assert!(rig.machine.has_session(WorkerId(1)));
    let outputs = rig.pass(1);
    assert!(outputs.contains(&Output::EndBroadcast(Cause::GraceOver)), "{outputs:?}");
}

#[test]
fn a_worker_that_says_twice_it_is_ready_begins_one_session() {
    let mut rig = Rig::live();
    assert_eq!(rig.input(Input::WorkerReady(WorkerId(1))), []);
}

#[test]
fn no_worker_starts_while_too_many_refuse_to_die() {
    let mut rig = Rig::live();
    for connection in [SECOND, ConnectionId(3)] {
        rig.input(Input::PublisherConnected(connection));
    }
    rig.input(Input::PublisherGone(ConnectionId(3)));
    let outputs = rig.input(Input::PublisherConnected(ConnectionId(4)));
    assert_eq!(started(&outputs), None, "three are dying");
    assert_eq!(started(&rig.pass(60_000)), None);
    assert_eq!(started(&rig.exited(2)), Some(4));
}

#[test]
fn the_same_key_takes_over_at_once_from_a_connection_that_looks_alive() {
    let mut rig = Rig::live();
    assert_eq!(
        rig.input(Input::PublisherConnected(SECOND)),
        [
            Output::ClosePublisher(FIRST, Cause::TakenOver),
            Output::EndSession(WorkerId(1)),
            Output::TerminateWorker(WorkerId(1)),
            Output::AttachPublisher(SECOND),
            Output::StartWorker(WorkerId(2)),
            Output::State(State::Grace, Cause::TakenOver),
        ]
    );
    assert_eq!(rig.input(Input::PublisherGone(FIRST)), [], "the old one no longer matters");
}

#[test]
fn after_two_takeovers_in_thirty_seconds_the_newcomer_is_refused_and_the_holder_stays() {
    let mut rig = Rig::live();
    rig.input(Input::PublisherConnected(SECOND));
    rig.exited(1);
    rig.input(Input::PublisherConnected(FIRST));
    rig.exited(2);
    rig.pass(10_000);
    let third = ConnectionId(3);
    assert_eq!(
        rig.input(Input::PublisherConnected(third)),
        [Output::RefusePublisher(third, Cause::TakeoverLimit(20))]
    );
    assert!(
        rig.input(Input::WorkerReady(WorkerId(3))).contains(&Output::BeginSession(WorkerId(3)))
    );
}

#[test]
fn words_of_an_older_worker_or_connection_change_nothing() {
    let mut rig = Rig::live();
    rig.input(Input::PublisherConnected(SECOND));
    let before = rig.machine.clone();
    for late in [
        Input::WorkerReady(WorkerId(1)),
        Input::WorkerPart(WorkerId(1)),
        Input::WorkerDrained(WorkerId(1)),
        Input::WorkerBackedUp(WorkerId(1)),
        Input::PublisherMedia(FIRST),
        Input::PublisherGone(FIRST),
    ] {
        assert_eq!(rig.input(late), []);
    }
    assert_eq!(rig.failed(1, FailCode::Input), []);
    assert_eq!(format!("{:?}", rig.machine), format!("{before:?}"));
    assert!(!rig.machine.has_session(WorkerId(1)));
}

#[test]
fn a_killed_worker_is_replaced_within_a_second_and_the_broadcast_goes_on() {
    let mut rig = Rig::live();
    assert_eq!(
        rig.exited(1),
        [
            Output::EndSession(WorkerId(1)),
            Output::State(State::Grace, Cause::WorkerCrashed("signal 9".into()))
        ]
    );
    assert_eq!(started(&rig.pass(1_000)), Some(2));
    assert_eq!(
        rig.input(Input::WorkerReady(WorkerId(2))),
        [Output::BeginSession(WorkerId(2)), Output::State(State::Live, Cause::OnAir)]
    );
}

#[test]
fn a_worker_above_its_memory_limit_is_ended_and_replaced_like_one_that_crashed() {
    let mut rig = Rig::live();
    let over = |id| Input::WorkerOverMemory { worker: WorkerId(id), used_mb: 600, limit_mb: 500 };
    assert!(rig.input(over(7)).is_empty(), "no such worker");
    let outputs = rig.input(over(1));
    assert!(outputs.contains(&Output::EndSession(WorkerId(1))));
    assert!(outputs.contains(&Output::TerminateWorker(WorkerId(1))));
    let cause = Cause::MemoryLimit { used_mb: 600, limit_mb: 500 };
    assert_eq!((rig.machine.state(), rig.machine.cause()), (State::Grace, &cause));
    assert_eq!(rig.machine.crashes(), 1);
    assert_eq!(started(&rig.pass_with_media(1_000, FIRST)), Some(2));
    assert!(rig.input(over(1)).is_empty(), "it is on its way out");
}

#[test]
fn five_crashes_in_two_minutes_fail_the_stream_until_the_operator_starts_it() {
    let mut rig = Rig::new(OWN);
    rig.input(Input::OperatorStart);
    rig.input(Input::WorkerReady(WorkerId(1)));
    for worker in 1..=5 {
        assert_ne!(rig.machine.state(), State::Failed);
        rig.exited(worker);
        rig.pass(10_000);
    }
    assert_eq!(rig.machine.state(), State::Failed);
    assert_eq!(rig.machine.cause().code(), "crash_loop");
    let later = rig.pass(300_000);
    assert_eq!(started(&later), None);
    assert!(later.iter().any(|o| matches!(o, Output::EndBroadcast(_))), "grace ends it");
    assert_eq!(rig.machine.state(), State::Failed);
    assert_eq!(started(&rig.input(Input::OperatorStart)), Some(6));
}

#[test]
fn crashes_that_look_alike_are_counted_each_until_a_broadcast_begins() {
    let mut rig = Rig::new(OWN);
    rig.input(Input::OperatorStart);
    for worker in 1..=4 {
        rig.exited(worker);
        rig.pass(10_000);
    }
    assert_eq!(rig.machine.crashes(), 4);
    rig.input(Input::WorkerReady(WorkerId(5)));
    assert_eq!(rig.machine.crashes(), 0);
    rig.exited(5);
    assert_eq!(rig.machine.crashes(), 1);
}

#[test]
fn a_hanging_worker_is_killed_after_two_segments_while_media_flows() {
    let mut rig = Rig::live();
    rig.pass_with_media(3_000, FIRST);
    rig.input(Input::WorkerPart(WorkerId(1)));
    assert_eq!(rig.pass_with_media(3_900, FIRST), []);
    let outputs = rig.pass_with_media(400, FIRST);
    assert_eq!(
        outputs,
        [
            Output::EndSession(WorkerId(1)),
            Output::TerminateWorker(WorkerId(1)),
            Output::State(State::Grace, Cause::Stalled),
            Output::StartWorker(WorkerId(2)),
        ]
    );
}

#[test]
fn a_silent_publisher_is_not_the_workers_fault() {
    let mut rig = Rig::live();
    rig.pass_with_media(2_000, FIRST);
    rig.input(Input::WorkerPart(WorkerId(1)));
    assert_eq!(rig.pass(60_000), []);
    // Media again: the patience starts over.
    assert_eq!(rig.pass_with_media(3_900, FIRST), []);
    assert_eq!(rig.machine.state(), State::Live);
}

#[test]
fn a_worker_of_a_file_or_the_test_picture_always_has_a_source_to_deliver() {
    let mut rig = Rig::new(OWN);
    rig.input(Input::OperatorStart);
    rig.input(Input::WorkerReady(WorkerId(1)));
    assert!(rig.pass(4_000).contains(&Output::TerminateWorker(WorkerId(1))));
}

#[test]
fn a_worker_that_does_not_take_its_input_is_replaced() {
    let mut rig = Rig::live();
    let outputs = rig.input(Input::WorkerBackedUp(WorkerId(1)));
    assert!(outputs.contains(&Output::State(State::Grace, Cause::Stalled)));
    assert_eq!(started(&rig.pass(1_000)), Some(2));
    assert_eq!(
        rig.input(Input::WorkerBackedUp(WorkerId(2))),
        [],
        "one that is starting may be trying encoders out"
    );
}

#[test]
fn unusable_input_closes_the_publisher_with_the_workers_words() {
    let mut rig = Rig::new(PUSHED);
    rig.input(Input::OperatorStart);
    rig.input(Input::PublisherConnected(FIRST));
    let why = Cause::Unusable("the worker's words".into());
    assert_eq!(
        rig.failed(1, FailCode::Input),
        [Output::ClosePublisher(FIRST, why.clone()), Output::State(State::Waiting, why)]
    );
    assert_eq!(rig.pass(EXIT_PATIENCE_MS), [Output::TerminateWorker(WorkerId(1))]);
    // With its settings repaired the encoder is welcome.
    assert_eq!(started(&rig.input(Input::PublisherConnected(SECOND))), Some(2));
}

#[test]
fn an_encoder_that_keeps_pushing_unusable_input_costs_one_worker_a_second() {
    let mut rig = Rig::new(PUSHED);
    rig.input(Input::OperatorStart);
    let mut workers = 0;
    for connection in 0..100 {
        workers += usize::from(
            started(&rig.input(Input::PublisherConnected(ConnectionId(connection)))).is_some(),
        );
        rig.failed(workers as u64, FailCode::Input);
        rig.exited(workers as u64);
        workers += usize::from(started(&rig.pass(100)).is_some());
        rig.input(Input::PublisherGone(ConnectionId(connection)));
    }
    assert!((2..=11).contains(&workers), "{workers} workers in 10 s");
    assert_ne!(rig.machine.state(), State::Failed);
}

#[test]
fn what_the_machine_lacks_at_a_restart_is_waited_for_until_the_grace_period_is_over() {
    let mut rig = Rig::new(OWN);
    rig.input(Input::OperatorStart);
    rig.input(Input::WorkerReady(WorkerId(1)));
    rig.exited(1);
    assert_eq!(started(&rig.pass(1_000)), Some(2));
    let why = Cause::Unusable("the worker's words".into());
    let mut worker = 2;
    while rig.machine.broadcast_open() {
        let outputs = rig.failed(worker, FailCode::Machine);
        assert!(!outputs.iter().any(|o| matches!(o, Output::EndBroadcast(_))), "{outputs:?}");
        assert_eq!((rig.machine.state(), rig.machine.cause()), (State::Grace, &why));
        rig.exited(worker);
        worker = started(&rig.pass(5_000)).expect("another try");
    }
    assert!((20..30).contains(&worker), "one every five seconds for two minutes: {worker}");
    assert_eq!(rig.failed(worker, FailCode::Machine), [Output::State(State::Failed, why)]);

    let mut rig = Rig::new(OWN);
    rig.input(Input::OperatorStart);
    rig.input(Input::WorkerReady(WorkerId(1)));
    rig.exited(1);
    rig.pass(1_000);
    rig.failed(2, FailCode::Machine);
    rig.pass(5_000);
    let outputs = rig.input(Input::WorkerReady(WorkerId(3)));
    let live = Output::State(State::Live, Cause::OnAir);
    assert_eq!(outputs, [Output::BeginSession(WorkerId(3)), live], "the broadcast goes on");
}

#[test]
fn unusable_input_of_a_file_fails_the_stream() {
    for code in [FailCode::Input, FailCode::Machine] {
        let mut rig = Rig::new(OWN);
        rig.input(Input::OperatorStart);
        let why = Cause::Unusable("the worker's words".into());
        assert_eq!(rig.failed(1, code), [Output::State(State::Failed, why)]);
        assert_eq!(started(&rig.pass(600_000)), None);
    }
}

#[test]
fn a_changed_source_gets_a_new_session_at_once_and_is_no_crash() {
    let mut rig = Rig::live();
    for change in 1..20 {
        rig.pass(5_000 - EXIT_PATIENCE_MS);
        rig.input(Input::WorkerPart(WorkerId(change)));
        let outputs = rig.failed(change, FailCode::Changed);
        assert_eq!(outputs.first(), Some(&Output::EndSession(WorkerId(change))));
        assert_eq!(started(&outputs), Some(change + 1));
        rig.exited(change);
        rig.input(Input::WorkerReady(WorkerId(change + 1)));
        assert_eq!(rig.machine.state(), State::Live);
        rig.pass(EXIT_PATIENCE_MS);
    }
}

#[test]
fn a_source_that_changes_before_anything_came_of_it_ends_in_failure() {
    let mut rig = Rig::new(PUSHED);
    rig.input(Input::OperatorStart);
    rig.input(Input::PublisherConnected(FIRST));
    for worker in 1..=5 {
        rig.failed(worker, FailCode::Changed);
        rig.exited(worker);
        rig.pass(20_000);
    }
    assert_eq!(rig.machine.state(), State::Failed);
}

#[test]
fn a_file_that_ends_ends_its_broadcast() {
    let mut rig = Rig::new(OWN);
    assert_eq!(started(&rig.input(Input::OperatorStart)), Some(1));
    rig.input(Input::WorkerReady(WorkerId(1)));
    assert_eq!(
        rig.input(Input::WorkerDrained(WorkerId(1))),
        [
            Output::EndSession(WorkerId(1)),
            Output::EndBroadcast(Cause::SourceEnded),
            Output::State(State::Ended, Cause::SourceEnded)
        ]
    );
    rig.exited(1);
    assert_eq!(started(&rig.pass(10_000_000)), None);
}

#[test]
fn an_operators_stop_hands_over_the_last_parts_and_ends_the_broadcast() {
    let mut rig = Rig::live();
    assert_eq!(
        rig.input(Input::OperatorStop),
        [
            Output::ClosePublisher(FIRST, Cause::OperatorStopped),
            Output::DrainWorker(WorkerId(1)),
            Output::State(State::Ended, Cause::OperatorStopped)
        ]
    );
    assert!(rig.machine.has_session(WorkerId(1)), "its last parts count");
    assert_eq!(rig.machine.standing(), Standing::Stopped);
    assert_eq!(
        rig.input(Input::WorkerDrained(WorkerId(1))),
        [Output::EndSession(WorkerId(1)), Output::EndBroadcast(Cause::OperatorStopped)]
    );
    let refused = Output::RefusePublisher(SECOND, Cause::OperatorStopped);
    assert_eq!(rig.input(Input::PublisherConnected(SECOND)), [refused]);
}

#[test]
fn an_operators_stop_beats_a_pending_restart_and_leaves_no_flag_behind() {
    let mut rig = Rig::live();
    rig.exited(1);
    rig.input(Input::OperatorStop);
    assert_eq!(started(&rig.pass(200_000)), None);
    rig.input(Input::OperatorStart);
    assert_eq!(started(&rig.input(Input::PublisherConnected(SECOND))), Some(2), "no back-off");
}

#[test]
fn a_start_during_a_stop_ends_the_old_broadcast_first() {
    let mut rig = Rig::new(OWN);
    rig.input(Input::OperatorStart);
    rig.input(Input::WorkerReady(WorkerId(1)));
    rig.input(Input::OperatorStop);
    assert_eq!(
        rig.input(Input::OperatorStart),
        [
            Output::EndSession(WorkerId(1)),
            Output::TerminateWorker(WorkerId(1)),
            Output::EndBroadcast(Cause::OperatorStopped),
            Output::StartWorker(WorkerId(2)),
            Output::State(State::Waiting, Cause::NoMediaYet)
        ]
    );
}

#[test]
fn crashes_of_an_earlier_broadcast_are_forgotten() {
    let mut rig = Rig::new(OWN);
    rig.input(Input::OperatorStart);
    for worker in 1..=4 {
        rig.exited(worker);
        rig.pass(8_000);
    }
    rig.input(Input::WorkerReady(WorkerId(5)));
    rig.exited(5);
    assert_eq!(started(&rig.pass(1_000)), Some(6));
}

#[test]
fn a_started_stream_that_never_gets_media_ends() {
    let mut rig = Rig::new(PUSHED);
    rig.input(Input::OperatorStart);
    let cause = Cause::NeverGotMedia(3_600_000);
    assert_eq!(rig.pass(3_600_000), [Output::State(State::Ended, cause)]);
}

#[test]
fn after_a_restart_of_the_broadcaster_pushed_streams_wait_in_grace_and_others_start_again() {
    let restored = || Input::Restored { standing: Standing::On, broadcast_open: true };
    let mut pushed = Rig::new(PUSHED);
    let state = Output::State(State::Grace, Cause::BroadcasterRestarted);
    assert_eq!(pushed.input(restored()).as_slice(), std::slice::from_ref(&state));
    pushed.pass(119_999);
    pushed.input(Input::PublisherConnected(FIRST));
    assert_eq!(
        pushed.input(Input::WorkerReady(WorkerId(1))),
        [Output::BeginSession(WorkerId(1)), Output::State(State::Live, Cause::OnAir)]
    );

    let mut own = Rig::new(OWN);
    assert_eq!(own.input(restored()), [Output::StartWorker(WorkerId(1)), state]);
}

#[test]
fn what_was_stopped_stays_stopped_over_a_restart_of_the_broadcaster() {
    let mut rig = Rig::new(OWN);
    let outputs = rig.input(Input::Restored { standing: Standing::Stopped, broadcast_open: true });
    assert_eq!(
        outputs,
        [
            Output::EndBroadcast(Cause::OperatorStopped),
            Output::State(State::Ended, Cause::OperatorStopped)
        ]
    );
}

#[test]
fn no_worker_outlives_a_shutdown_by_more_than_five_seconds_however_patient_the_stream_is() {
    let patient = Policy { force_kill_ms: 60_000, ..PUSHED };
    let mut rig = Rig::new(patient);
    rig.input(Input::OperatorStart);
    rig.input(Input::PublisherConnected(FIRST));
    rig.input(Input::WorkerReady(WorkerId(1)));
    // The first worker is on its way out when the end comes, the second one is live.
    rig.input(Input::PublisherConnected(SECOND));
    rig.input(Input::WorkerReady(WorkerId(2)));
    rig.input(Input::Shutdown);
    let outputs = rig.pass(DRAIN_MAX_MS + SHUTDOWN_KILL_MAX_MS);
    for worker in [1, 2] {
        assert!(outputs.contains(&Output::KillWorker(WorkerId(worker))), "{outputs:?}");
    }
}

#[test]
fn shutdown_drains_the_worker_and_keeps_the_broadcast_open() {
    let mut rig = Rig::live();
    let outputs = rig.input(Input::Shutdown);
    assert!(outputs.contains(&Output::DrainWorker(WorkerId(1))));
    assert!(outputs.contains(&Output::ClosePublisher(FIRST, Cause::ShuttingDown)));
    assert_eq!(rig.input(Input::WorkerDrained(WorkerId(1))), [Output::EndSession(WorkerId(1))]);
    assert_eq!(rig.exited(1), [Output::Finished]);
    assert!(rig.machine.broadcast_open());
    assert_eq!(rig.machine.standing(), Standing::On);
}
