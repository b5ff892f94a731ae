//! What is in use.

use super::*;
use crate::fake::Fake;

#[test]
fn lines_of_mountinfo() {
    let line = "36 35 8:2 /sub /mnt/a\\040b rw,noatime master:1 - ext3 /dev/sd\\134a rw,errors=x";
    let mount = parse_mount(line).unwrap();
    assert_eq!((mount.major, mount.minor), (8, 2));
    assert_eq!(
        (mount.mount_point.as_str(), mount.source.as_str()),
        ("/mnt/a b", "/dev/sd\\a")
    );
    assert_eq!(mount.fstype, "ext3");
    let plain = "27 1 254:0 / / rw - ext4 /dev/vda rw";
    assert_eq!(parse_mount(plain).unwrap().mount_point, "/");
    for bad in [
        "",
        "27 1 254:0 / /",
        "27 1 x / / rw - ext4 /dev/vda",
        "1 2 3:4 - a b",
    ] {
        assert_eq!(parse_mount(bad), None, "{bad}");
    }
    assert_eq!(unescape("a\\04"), "a\\04");
    assert_eq!(unescape("\\777\\u00e"), "\\777\\u00e");
}

/// Disk sda with two partitions, a memory disk, a loop device on a file and one on sda2.
fn machine() -> Fake {
    let fake = Fake::new();
    for (name, numbers) in [
        ("sda", "8:0"),
        ("sda1", "8:1"),
        ("sda2", "8:2"),
        ("zram0", "252:0"),
        ("loop0", "7:0"),
        ("loop1", "7:1"),
        ("dm-0", "253:0"),
    ] {
        fake.device(name, numbers, 1 << 20);
    }
    fake.put("sys/class/block/loop0/loop/backing_file", "/home/x.img");
    fake.put("sys/class/block/loop1/loop/backing_file", "/dev/sda2");
    fake.put("sys/class/block/dm-0/dm/name", "vg-root");
    fake.put("sys/class/block/dm-0/dm/uuid", "LVM-abc");
    fake.put(
        "proc/filesystems",
        "nodev\tproc\nnodev\ttmpfs\n\text4\n\tbtrfs\n",
    );
    fake
}

fn mounts(fake: &Fake, lines: &[&str]) -> Result<Vec<(String, String, String)>> {
    let line = |l: &&str| format!("20 1 {l}\n");
    let text: String = lines.iter().map(line).collect();
    fake.put("proc/self/mountinfo", &text);
    let list = fake.system().mounted_filesystems()?;
    let triple = |u: InUse| (u.device.name, u.fstype, u.mount_point);
    Ok(list.into_iter().map(triple).collect())
}

fn entry(a: &str, b: &str, c: &str) -> (String, String, String) {
    (a.into(), b.into(), c.into())
}

#[test]
fn mounted_filesystems_are_those_on_devices_each_once() {
    let fake = machine();
    let list = mounts(
        &fake,
        &[
            "8:1 / / rw shared:1 - ext4 /dev/root rw",
            "8:1 /sub /srv rw - ext4 /dev/root rw",
            "0:5 / /proc rw - proc proc rw",
            "0:6 / /tmp rw - tmpfs tmpfs rw",
            "0:40 / /net rw - nfs4 host:/x rw",
            "252:0 / /mem rw - ext4 /dev/zram0 rw",
            "7:0 / /snap ro - squashfs /dev/loop0 ro",
            "253:0 / /lvm rw - xfs /dev/mapper/vg-root rw",
        ],
    );
    let expected = [entry("sda1", "ext4", "/"), entry("dm-0", "xfs", "/lvm")];
    assert_eq!(list.unwrap(), expected);
    let dm = fake.system().block_device("dm-0").unwrap();
    assert_eq!(dm.kind, Kind::Mapper);
    assert_eq!(fake.system().describe(&dm), "LVM volume vg-root");
}

#[test]
fn a_loop_device_on_a_device_is_that_device() {
    let list = mounts(&machine(), &["7:1 / /x rw - ext4 /dev/loop1 rw"]);
    assert_eq!(list.unwrap(), [entry("sda2", "ext4", "/x")]);
}

#[test]
fn btrfs_is_known_by_its_source() {
    let fake = machine();
    let list = mounts(&fake, &["0:30 /@ /home rw - btrfs /dev/sda2 rw"]);
    assert_eq!(list.unwrap(), [entry("sda2", "btrfs", "/home")]);
    let lost = mounts(&fake, &["0:30 / / rw - btrfs /dev/root rw"]);
    assert!(matches!(lost, Err(Error::UnknownDevice { .. })), "{lost:?}");
    let gone = mounts(&fake, &["8:77 / /usb rw - ext4 /dev/sdz rw"]);
    assert!(matches!(gone, Err(Error::UnknownDevice { .. })), "{gone:?}");
}

#[test]
fn other_namespaces_count() {
    let fake = machine();
    fake.put(
        "proc/7/mountinfo",
        "9 1 8:2 / /in-a-container rw - ext4 /dev/sda2 rw\n",
    );
    fake.link("mnt:[1]", "proc/self/ns/mnt");
    fake.link("mnt:[2]", "proc/7/ns/mnt");
    let list = mounts(&fake, &["8:1 / / rw - ext4 /dev/sda1 rw"]).unwrap();
    assert_eq!(list[1], entry("sda2", "ext4", "/in-a-container"));
    let places = |n: usize| {
        fake.system().mounted_filesystems().unwrap()[n]
            .places
            .clone()
    };
    let place = |path: &str, minor| Place {
        path: path.into(),
        number: (8, minor),
    };
    assert_eq!(places(0), [place("/", 1)]);
    assert_eq!(places(1), [place("/proc/7/root/in-a-container", 2)]);
    fake.put("proc/8/mountinfo", "nonsense\n - - \n");
    fake.link("mnt:[3]", "proc/8/ns/mnt");
    assert_eq!(mounts(&fake, &[]).unwrap().len(), 1);
}

#[test]
fn swaps_are_those_on_devices() {
    let fake = machine();
    let head = "Filename\tType\tSize\tUsed\tPriority\n";
    let lines = "/dev/sda2\\040(deleted) partition 1 0 -2\n/swapfile file 1 0 -3\n\
                 /dev/zram0 partition 1 0 100\n/dev/dm-0 partition 1 0 -4\n";
    fake.put("proc/swaps", format!("{head}{lines}"));
    let list = fake.system().active_swaps().unwrap();
    let names: Vec<_> = list.iter().map(|u| u.device.name.as_str()).collect();
    assert_eq!(names, ["sda2", "dm-0"]);
    fake.put("proc/swaps", format!("{head}/dev/sdz9 partition 1 0 -2\n"));
    let lost = fake.system().active_swaps();
    assert!(matches!(lost, Err(Error::UnknownDevice { .. })), "{lost:?}");
}
