//! Random scripts of everything that can happen, played in a naive world whose processes,
//! connections and feed check every output. A failing script is printed with its seed.
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// One step of a script.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Connect,
    Drop,
    Silence,
    Speak,
    Crash,
    Hang { deaf: bool },
    Fail(FailCode),
    SourceEnds,
    BackUp,
    Stop,
    Start,
    Late { worker: u64, what: u8 },
    RestartBroadcaster,
}

fn step() -> impl Strategy<Value = Step> {
    let code = prop_oneof![
        Just(FailCode::Input),
        Just(FailCode::Machine),
        Just(FailCode::Changed),
        Just(FailCode::Other)
    ];
    prop_oneof![
        8 => (1u64..3_000).prop_map(Step::Pass),
        3 => (3_000u64..40_000).prop_map(Step::Pass),
        1 => (40_000u64..200_000).prop_map(Step::Pass),
        6 => Just(Step::Connect),
        2 => Just(Step::Drop),
        1 => Just(Step::Silence),
        1 => Just(Step::Speak),
        3 => Just(Step::Crash),
        2 => any::<bool>().prop_map(|deaf| Step::Hang { deaf }),
        2 => code.prop_map(Step::Fail),
        1 => Just(Step::SourceEnds),
        1 => Just(Step::BackUp),
        1 => Just(Step::Stop),
        3 => Just(Step::Start),
        2 => (0u64..40, 0u8..6).prop_map(|(worker, what)| Step::Late { worker, what }),
        1 => Just(Step::RestartBroadcaster),
    ]
}

/// A process, as the world runs it.
#[derive(Clone, Debug)]
struct Process {
    ready_at: Now,
    ready: bool,
    /// Makes nothing any more.
    hangs: bool,
    /// Ignores SIGTERM and drains.
    deaf: bool,
    exits_at: Option<Now>,
    drains: bool,
    parts: u64,
}

/// What the feed would number, by the rules of architecture.md invariant 3.
#[derive(Debug, Default)]
struct NaiveFeed {
    broadcast_open: bool,
    session: Option<WorkerId>,
    sessions: u64,
    discontinuities: u64,
    next_msn: u64,
    base_msn: u64,
    newest_worker: Option<WorkerId>,
}

impl NaiveFeed {
    fn begin_session(&mut self, worker: WorkerId) {
        assert!(self.broadcast_open, "a session outside a broadcast");
        assert_eq!(self.session, None, "two live sessions");
        assert!(Some(worker) > self.newest_worker, "an old worker's session");
        self.newest_worker = Some(worker);
        self.session = Some(worker);
        self.sessions += 1;
        self.discontinuities += 1;
        self.base_msn = self.next_msn;
    }

    fn part(&mut self, worker: WorkerId, segment: u64) {
        assert_eq!(self.session, Some(worker), "a part without a session");
        let msn = self.base_msn + segment;
        assert!(msn + 1 >= self.next_msn, "the numbering went back");
        self.next_msn = msn + 1;
    }
}

struct World {
    policy: Policy,
    machine: Machine,
    now: Now,
    feed: NaiveFeed,
    processes: BTreeMap<WorkerId, Process>,
    attached: Option<ConnectionId>,
    speaks: bool,
    refused: BTreeSet<ConnectionId>,
    next_connection: u64,
    newest_worker: u64,
    /// The operator's last word.
    wanted: bool,
    state: Option<State>,
}

impl World {
    fn new(pushed: bool) -> Self {
        let policy = Policy { pushed, stream_timeout_ms: 600_000, ..PUSHED };
        Self {
            policy,
            machine: Machine::new(policy, Now(0)),
            now: Now(0),
            feed: NaiveFeed::default(),
            processes: BTreeMap::new(),
            attached: None,
            speaks: true,
            refused: BTreeSet::new(),
            next_connection: 0,
            newest_worker: 0,
            wanted: false,
            state: None,
        }
    }

    fn handle(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        while let Some(output) = self.machine.poll_output() {
            self.carry_out(output);
        }
        self.check();
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::StartWorker(id) => {
                assert!(self.wanted, "a worker started against the operator's stop");
                assert!(!self.policy.pushed || self.attached.is_some(), "nothing to work on");
                assert!(id.0 > self.newest_worker, "a worker's number came back");
                self.newest_worker = id.0;
                let process = Process {
                    ready_at: self.now.plus(500),
                    ready: false,
                    hangs: false,
                    deaf: false,
                    exits_at: None,
                    drains: false,
                    parts: 0,
                };
                self.processes.insert(id, process);
            }
            Output::DrainWorker(id) => {
                assert_eq!(self.feed.session, Some(id), "only a session has something to drain");
                if let Some(process) = self.processes.get_mut(&id).filter(|p| !p.deaf && !p.hangs) {
                    process.drains = true;
                }
            }
            Output::TerminateWorker(id) => {
                let soon = self.now.plus(50);
                if let Some(process) = self.processes.get_mut(&id).filter(|p| !p.deaf) {
                    process.exits_at.get_or_insert(soon);
                }
            }
            Output::KillWorker(id) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.exits_at = Some(self.now);
                }
            }
            Output::AttachPublisher(id) => {
                assert_eq!(self.attached, None, "two publishers at once");
                assert!(!self.refused.contains(&id), "a refused publisher was attached");
                self.attached = Some(id);
            }
            Output::ClosePublisher(id, _) => {
                assert_eq!(self.attached.take(), Some(id), "closed someone who is not attached");
            }
            Output::RefusePublisher(id, _) => {
                assert_ne!(self.attached, Some(id));
                self.refused.insert(id);
            }
            Output::BeginBroadcast => {
                assert!(!self.feed.broadcast_open, "a broadcast within a broadcast");
                self.feed.broadcast_open = true;
            }
            Output::BeginSession(id) => self.feed.begin_session(id),
            Output::EndSession(id) => {
                assert_eq!(self.feed.session.take(), Some(id), "ended another session");
            }
            Output::EndBroadcast(_) => {
                assert!(self.feed.broadcast_open, "ended what had not begun");
                assert_eq!(self.feed.session, None, "ended a broadcast under a session");
                self.feed.broadcast_open = false;
            }
            Output::FreeStream => assert!(!self.feed.broadcast_open, "freed what is on"),
            Output::State(state, _) => self.state = Some(state),
            Output::Finished => panic!("nobody asked for a shutdown"),
        }
    }

    /// What must hold after every input.
    fn check(&self) {
        assert_eq!(self.state, Some(self.machine.state()), "the announced state is another");
        assert_eq!(self.machine.broadcast_open(), self.feed.broadcast_open);
        assert!(self.processes.len() <= LEAVING_MAX + 1, "{} processes", self.processes.len());
        if let Some((at, why)) = self.machine.poll_timeout() {
            assert!(at > self.now, "{why} was due at {at:?}, it is {:?}", self.now);
            assert!(at <= self.now.plus(600_000), "{why} is due in over ten minutes");
        }
        let expected = match (self.feed.session, self.feed.broadcast_open) {
            _ if !self.wanted => vec![State::Ended],
            (Some(_), _) => vec![State::Live, State::Grace],
            (None, true) => vec![State::Grace, State::Failed],
            (None, false) => vec![State::Waiting, State::Failed, State::Ended],
        };
        let state = self.machine.state();
        assert!(expected.contains(&state), "{state:?} is not one of {expected:?}");
        assert_eq!(self.machine.standing() == Standing::Stopped, !self.wanted);
    }

    /// Lets time pass in steps small enough for every process and timer.
    fn pass(&mut self, ms: u64) {
        let end = self.now.plus(ms);
        while self.now < end {
            let tick = self.now.plus(250).min(end);
            let due = self.machine.poll_timeout().map_or(tick, |(at, _)| at.min(tick));
            let exit = self.processes.values().filter_map(|p| p.exits_at).min().unwrap_or(tick);
            self.now = due.min(exit).max(self.now.plus(1)).min(tick);
            self.handle(Input::Tick);
            if let Some(id) = self.attached.filter(|_| self.speaks) {
                self.handle(Input::PublisherMedia(id));
            }
            self.run_processes();
        }
    }

    fn run_processes(&mut self) {
        let ids: Vec<_> = self.processes.keys().copied().collect();
        for id in ids {
            let fed = !self.policy.pushed || (self.attached.is_some() && self.speaks);
            let fed = fed && self.machine.feeding() == Some(id);
            let Some(process) = self.processes.get_mut(&id) else { continue };
            if process.exits_at.is_some_and(|at| at <= self.now) {
                self.exit(id);
            } else if process.drains {
                process.drains = false;
                process.exits_at = Some(self.now.plus(20));
                self.handle(Input::WorkerDrained(id));
            } else if process.hangs || !fed {
            } else if !process.ready && process.ready_at <= self.now {
                process.ready = true;
                self.handle(Input::WorkerReady(id));
            } else if process.ready {
                process.parts += 1;
                let segment = process.parts / 8;
                if self.machine.has_session(id) {
                    self.feed.part(id, segment);
                }
                self.handle(Input::WorkerPart(id));
            }
        }
    }

    fn exit(&mut self, id: WorkerId) {
        if self.processes.remove(&id).is_some() {
            self.handle(Input::WorkerExited { worker: id, how: "exit status 0".into() });
        }
    }

    /// The worker in charge, if there is one.
    fn current(&self) -> Option<WorkerId> {
        self.machine.feeding().filter(|id| self.processes.contains_key(id))
    }

    fn connect(&mut self) {
        self.next_connection += 1;
        self.handle(Input::PublisherConnected(ConnectionId(self.next_connection)));
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Pass(ms) => self.pass(ms),
            Step::Connect => self.connect(),
            Step::Drop => {
                if let Some(id) = self.attached.take() {
                    self.handle(Input::PublisherGone(id));
                }
            }
            Step::Silence => self.speaks = false,
            Step::Speak => self.speaks = true,
            Step::Crash => {
                if let Some(id) = self.current() {
                    self.exit(id);
                }
            }
            Step::Hang { deaf } => {
                if let Some(process) = self.current().and_then(|id| self.processes.get_mut(&id)) {
                    process.hangs = true;
                    process.deaf = deaf;
                }
            }
            Step::Fail(code) => {
                if let Some(worker) = self.current() {
                    let message = "words".to_owned();
                    self.handle(Input::WorkerFailed { worker, code, message });
                }
            }
            Step::SourceEnds => {
                if let Some(id) = self.current() {
                    self.handle(Input::WorkerDrained(id));
                }
            }
            Step::BackUp => {
                if let Some(id) = self.current() {
                    self.handle(Input::WorkerBackedUp(id));
                }
            }
            Step::Stop => {
                self.wanted = false;
                self.handle(Input::OperatorStop);
            }
            Step::Start => {
                self.wanted = true;
                self.handle(Input::OperatorStart);
            }
            Step::Late { worker, what } => self.late(WorkerId(worker), what),
            Step::RestartBroadcaster => self.restart_broadcaster(),
        }
    }

    /// A message of a worker that is not the current one, or of a connection that is gone.
    fn late(&mut self, worker: WorkerId, what: u8) {
        if self.machine.feeding() == Some(worker) || self.feed.session == Some(worker) {
            return;
        }
        let before = (self.feed.sessions, self.feed.session, self.attached);
        self.handle(match what {
            0 => Input::WorkerReady(worker),
            1 => Input::WorkerPart(worker),
            2 => Input::WorkerDrained(worker),
            3 => Input::WorkerBackedUp(worker),
            4 => Input::PublisherGone(ConnectionId(u64::MAX - worker.0)),
            _ => Input::WorkerFailed { worker, code: FailCode::Input, message: "late".into() },
        });
        assert_eq!(before, (self.feed.sessions, self.feed.session, self.attached));
    }

    /// Workers die with their parent; only what is on disk is left.
    fn restart_broadcaster(&mut self) {
        let (standing, broadcast_open) = (self.machine.standing(), self.machine.broadcast_open());
        self.processes.clear();
        self.attached = None;
        self.feed.session = None;
        self.feed.newest_worker = None;
        self.newest_worker = 0;
        self.machine = Machine::new(self.policy, self.now);
        self.handle(Input::Restored { standing, broadcast_open });
    }

    /// Faults stop, the operator wants the stream, the publisher stays: it has to come back.
    fn recover(&mut self) {
        for process in self.processes.values_mut() {
            process.hangs = false;
        }
        self.speaks = true;
        self.wanted = true;
        self.handle(Input::OperatorStart);
        // The longest pause between restarts and the longest wait for a worker to die.
        for _ in 0..60 {
            if self.policy.pushed && self.attached.is_none() {
                self.connect();
            }
            self.pass(1_000);
        }
        assert_eq!(self.machine.state(), State::Live, "{:#?}", self.machine);
        let sessions = self.feed.sessions;
        self.pass(60_000);
        assert_eq!(self.feed.sessions, sessions, "a healthy stream was restarted");
    }

    fn stop_for_good(&mut self) {
        self.wanted = false;
        self.handle(Input::OperatorStop);
        self.pass(DRAIN_MAX_MS + EXIT_PATIENCE_MS + self.policy.force_kill_ms + 1_000);
        assert!(self.machine.is_quiet() && self.processes.is_empty(), "{:?}", self.processes);
        assert!(!self.feed.broadcast_open && self.attached.is_none());
    }
}

proptest! {
    #[test]
    fn no_script_breaks_a_rule_and_every_stream_recovers(
        pushed in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(pushed);
        world.play(Step::Start);
        for step in steps {
            world.play(step);
        }
        world.recover();
        world.stop_for_good();
    }
}
