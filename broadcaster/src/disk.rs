//! Waiting for a disk from within a task.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does something that waits for the disk. Other tasks go on meanwhile: the thread's are handed to
/// another, where the runtime has several. Outside of a runtime it is just done.
pub(crate) fn waiting<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_slow_disk_holds_up_nobody_but_who_waits_for_it() {
        let (done, disk) = channel();
        let slow = tokio::spawn(async move { super::waiting(|| disk.recv()) });
        // With its one thread waiting, the runtime still runs this.
        tokio::spawn(async move { done.send(()) }).await.expect("it runs").expect("it waits");
        slow.await.expect("it ends").expect("the disk answered");
    }
}
