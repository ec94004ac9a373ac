//! What encodes on this machine, as names that change when the device or its driver does. Read
//! from files, without loading any driver.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::worker::encoder::Family;

/// A device and its driver, in words that are stable as long as they stay the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Device {
    /// Which device, or which ones.
    pub device: String,
    /// Which driver and which version of it.
    pub driver: String,
}

/// Where this machine describes itself.
#[derive(Clone, Debug)]
pub struct Devices {
    root: PathBuf,
}

/// Devices of one kind that are looked at: more are in no machine that encodes.
const DEVICES_MAX: usize = 64;

impl Default for Devices {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl Devices {
    /// A machine described by the files under `root`.
    pub fn under(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// What encoders of this family work with; `None` when there is nothing of it here.
    pub fn of(&self, family: Family) -> Option<Device> {
        match family {
            Family::Nvidia => self.nvidia(),
            Family::Va => self.nodes("dev/dri", "renderD", "sys/class/drm"),
            Family::V4l2 => self.nodes("dev", "video", "sys/class/video4linux"),
            Family::VideoToolbox => cfg!(target_os = "macos").then(Device::default),
            Family::Software => Some(Device { device: self.processor(), driver: String::new() }),
        }
    }

    /// Whether anything here might encode, so that a trial is worth its time.
    pub fn any_hardware(&self) -> bool {
        [Family::Nvidia, Family::Va, Family::V4l2, Family::VideoToolbox]
            .into_iter()
            .any(|family| self.of(family).is_some())
    }

    fn nvidia(&self) -> Option<Device> {
        let version = self.read("proc/driver/nvidia/version")?;
        let pci = self.names("sys/bus/pci/drivers/nvidia", "");
        let cards = pci.iter().filter_map(|slot| {
            let slot = format!("sys/bus/pci/drivers/nvidia/{slot}");
            Some(format!(
                "{}:{}",
                self.read(&format!("{slot}/vendor"))?,
                self.read(&format!("{slot}/device"))?
            ))
        });
        let driver = version.lines().next().unwrap_or_default().to_owned();
        Some(Device { device: joined(cards), driver })
    }

    /// Devices that drivers open as files, such as `/dev/dri/renderD128`. A container may see what
    /// the kernel says of them and yet not have them.
    fn nodes(&self, folder: &str, prefix: &str, class: &str) -> Option<Device> {
        let mut devices = BTreeSet::new();
        let mut drivers = BTreeSet::new();
        for name in self.names(folder, prefix) {
            let at = |file: &str| self.read(&format!("{class}/{name}/{file}"));
            let ids = (at("device/vendor"), at("device/device"));
            let id = match ids {
                (Some(vendor), Some(device)) => Some(format!("{vendor}:{device}")),
                _ => at("name").or_else(|| at("device/uevent").map(|u| u.replace('\n', " "))),
            };
            let mut id = id.unwrap_or_else(|| name.clone());
            let wanted = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
            if rustix::fs::access(self.root.join(folder).join(&name), wanted).is_err() {
                // A part of the name, so that the next trial comes when this is mended.
                id.push_str(" (no access)");
            }
            devices.insert(id);
            let link = self.root.join(format!("{class}/{name}/device/driver"));
            if let Some(driver) = fs::read_link(link).ok().as_deref().and_then(Path::file_name) {
                drivers.insert(driver.to_string_lossy().into_owned());
            }
        }
        if devices.is_empty() {
            return None;
        }
        // These drivers are parts of the kernel.
        let kernel = self.read("proc/sys/kernel/osrelease").unwrap_or_default();
        let driver = format!("{} {kernel}", joined(drivers)).trim().to_owned();
        Some(Device { device: joined(devices), driver })
    }

    /// The processor's name.
    pub fn processor(&self) -> String {
        let info = self.read("proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        name.map(|(_, name)| name.trim().to_owned()).unwrap_or_default()
    }

    fn read(&self, file: &str) -> Option<String> {
        Some(fs::read_to_string(self.root.join(file)).ok()?.trim().to_owned())
    }

    /// Files of a folder whose names begin so, in order.
    fn names(&self, folder: &str, prefix: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(folder)).into_iter().flatten();
        let mut names: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .filter(|name| name.starts_with(prefix))
            .take(DEVICES_MAX)
            .collect();
        names.sort_unstable();
        names
    }
}

fn joined(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn a_machine_without_devices_has_only_its_processor() {
        let dir = tempfile::tempdir().expect("a folder");
        file(dir.path(), "proc/cpuinfo", "processor : 0\nmodel name\t: A chip @ 3 GHz\n");
        let devices = Devices::under(dir.path());
        assert!(!devices.any_hardware());
        let software = devices.of(Family::Software).expect("always");
        assert_eq!(software.device, "A chip @ 3 GHz");
    }

    #[test]
    fn a_card_is_told_by_its_ids_and_its_drivers_version() {
        let dir = tempfile::tempdir().expect("a folder");
        file(dir.path(), "proc/driver/nvidia/version", "NVRM version: 550.1\nGCC version: 12\n");
        file(dir.path(), "sys/bus/pci/drivers/nvidia/0000:01:00.0/vendor", "0x10de\n");
        file(dir.path(), "sys/bus/pci/drivers/nvidia/0000:01:00.0/device", "0x2204\n");
        file(dir.path(), "sys/bus/pci/drivers/nvidia/bind", "");
        let devices = Devices::under(dir.path());
        let card = devices.of(Family::Nvidia).expect("it is there");
        let expected =
            Device { device: "0x10de:0x2204".into(), driver: "NVRM version: 550.1".into() };
        assert_eq!(card, expected);
        assert!(devices.any_hardware());
        assert_eq!(devices.of(Family::Va), None);
    }

    #[test]
    fn a_render_node_is_told_by_its_driver_and_the_kernel() {
        let dir = tempfile::tempdir().expect("a folder");
        let node = "sys/class/drm/renderD128/device";
        file(dir.path(), &format!("{node}/vendor"), "0x8086\n");
        file(dir.path(), &format!("{node}/device"), "0x46a6\n");
        std::os::unix::fs::symlink(
            "../../bus/pci/drivers/i915",
            dir.path().join(node).join("driver"),
        )
        .expect("linked");
        file(dir.path(), "sys/class/drm/card0/device/vendor", "0x8086");
        let devices = Devices::under(dir.path());
        assert_eq!(devices.of(Family::Va), None, "a container that was not given the device");
        file(dir.path(), "dev/dri/renderD128", "");
        file(dir.path(), "proc/sys/kernel/osrelease", "6.1.0\n");
        let chip = devices.of(Family::Va).expect("it is there");
        assert_eq!(chip, Device { device: "0x8086:0x46a6".into(), driver: "i915 6.1.0".into() });
    }

    #[test]
    fn a_video_device_is_told_by_its_name() {
        let dir = tempfile::tempdir().expect("a folder");
        file(dir.path(), "sys/class/video4linux/video11/name", "bcm2835-codec-encode\n");
        file(dir.path(), "dev/video11", "");
        let found = Devices::under(dir.path()).of(Family::V4l2).expect("it is there");
        assert_eq!(found.device, "bcm2835-codec-encode");
    }
}
