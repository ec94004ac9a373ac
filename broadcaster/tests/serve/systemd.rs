//! What a service manager is told.

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use crate::rig::{Broadcaster, PATIENCE};

fn next(socket: &UnixDatagram) -> String {
    let mut message = [0; 256];
    let len = socket.recv(&mut message).unwrap();
    String::from_utf8_lossy(&message[..len]).trim().to_owned()
}

#[tokio::test]
async fn a_service_manager_is_told_when_it_is_up_that_it_lives_and_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut shoal = Broadcaster::start(&dir.path().join("data"), |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    });
    assert_eq!(next(&manager), "READY=1");
    assert_eq!([next(&manager), next(&manager)], ["WATCHDOG=1", "WATCHDOG=1"]);
    shoal.signal(Signal::TERM);
    let last = std::iter::repeat_with(|| next(&manager)).find(|said| said != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    assert_eq!(shoal.ended().code(), Some(0));
}
