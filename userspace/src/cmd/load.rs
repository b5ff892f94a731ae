//! `kjump load`.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use kjump_abi::{PREPARE_ONE_WAY, SHARED_WINDOW_END};
use object::read::ReadCache;
use rustix::io::Errno;

use super::peer;
use crate::cli::{Load, LoadArgs};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hibernation::label::Label;
use crate::loader::plan::{self, Kernel, Place, Request};
use crate::loader::{bzimage, elf, memmap, page_down};

const VERB: &str = "load";

/// Loads a kernel. The module drops a load that is not committed when its file is closed, so
/// every `?` after `prepare` leaves nothing behind.
pub fn run(args: &LoadArgs) -> Result<u8> {
    let device = Device::open_load(&args.name)?;
    let loaded = match args.peer {
        true => peer::load_file(&device, &args.load.kernel, |_| Ok(())),
        false => load(&device, &args.load),
    };
    loaded.map(|()| 0).map_err(|e| e.of_name(&args.name))
}

/// As [`run`], with a device that the caller has open.
pub fn load(device: &Device, args: &Load) -> Result<()> {
    let (flags, window_end) = if args.one_way {
        (PREPARE_ONE_WAY, None)
    } else {
        (0, Some(args.window))
    };
    let prepared = match args.own_window {
        Some(size) => device
            .prepare_own(size)
            .map_err(|e| own_window_error(e, size))?,
        None => device
            .prepare(flags, args.window)
            .map_err(|e| prepare_error(e, args.window))?,
    };
    let own = args
        .own_window
        .map(|size| (prepared.own_start, prepared.own_start + size));
    let window_end = args
        .own_window
        .map_or(window_end, |_| Some(SHARED_WINDOW_END));

    if !args.one_way {
        let release = peer::release_of(&args.kernel);
        peer::tell(device, &Label::of_this_machine(release));
    }
    let mut command_line = args.append.clone();
    if !args.one_way {
        let (handoff, entry) = (prepared.handoff, prepared.jump_back_entry);
        command_line += &format!(" kjump.handoff={handoff:#x} kexec_jump_back_entry={entry:#x}");
        // What a stock kernel shows as /proc/vmcore.
        if prepared.elfcorehdr != 0 && !args.append.contains("elfcorehdr=") {
            command_line += &format!(" elfcorehdr={:#x}", prepared.elfcorehdr);
        }
        // Linux limits an initramfs to half of a window's few MiB if it is a tmpfs.
        if !args.append.contains("rootfstype=") {
            command_line += " rootfstype=ramfs";
        }
    }
    log::info!("command line: {command_line}");
    let initrd = args.initrd.as_deref().map(Contents::open).transpose()?;
    let map = match window_end {
        Some(_) => memmap::read_shared()?,
        None => memmap::read()?,
    };
    let plan = with_kernel(&args.kernel, |kernel| {
        plan::plan(Request {
            kernel,
            initrd_size: initrd.as_ref().map_or(0, |i| i.size),
            command_line,
            map: &map,
            window_end,
            own,
            floor: 0,
            below: args.below,
            own_boot_params: fs::read("/sys/kernel/boot_params/data").ok(),
        })
    })?;
    for s in &plan.segments {
        send(device, &s.data, s.mem, s.memsz, window_end)?;
    }
    let mut send_piece = |data: &[u8], mem| send(device, data, mem, data.len() as u64, window_end);
    if let Some((place, start)) = plan.code {
        let kernel = Contents::open(&args.kernel)?;
        kernel.send(start, place, &mut send_piece)?;
    }
    if let (Some(place), Some(initrd)) = (plan.initrd, initrd) {
        initrd.send(0, place, &mut send_piece)?;
    }
    device
        .commit(plan.entry, plan.boot_params)
        .map_err(|e| commit_error(e, plan.entry))
}

/// Looks whether the files are there, and the kernel is one.
pub fn check(args: &Load) -> Result<()> {
    if let Some(initrd) = &args.initrd {
        Contents::open(initrd)?;
    }
    with_kernel(&args.kernel, |_| Ok(()))
}

/// Reads the kernel's file and hands what it is to `use_it`.
fn with_kernel<T>(path: &Path, use_it: impl FnOnce(Kernel) -> Result<T>) -> Result<T> {
    let io = |e| Error::io(path.display().to_string(), e);
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut start = Vec::new();
    file.by_ref()
        .take(bzimage::HEAD as u64)
        .read_to_end(&mut start)
        .map_err(io)?;
    if elf::is_elf(&start) {
        let cache = ReadCache::new(file);
        return use_it(Kernel::Elf(elf::parse(&cache, path)?));
    }
    if !bzimage::is_bzimage(&start) {
        let why = "it is neither a bzImage nor an ELF".into();
        return Err(Error::NotKernel {
            path: path.into(),
            why,
        });
    }
    use_it(Kernel::BzImage(bzimage::parse(&start, size, path)?))
}

/// Hands a piece to the module.
pub fn send(
    device: &Device,
    data: &[u8],
    mem: u64,
    memsz: u64,
    window_end: Option<u64>,
) -> Result<()> {
    log::info!("segment {mem:#x}+{memsz:#x}, {} bytes of data", data.len());
    device
        .segment(data, mem, memsz)
        .map_err(|e| segment_error(e, mem, memsz, window_end))
}

/// A file that is read piece by piece: it may be large, and memory is what a load is short of.
struct Contents<'a> {
    path: &'a Path,
    file: File,
    size: u64,
}

impl<'a> Contents<'a> {
    /// Bytes of a piece, whole pages.
    const PIECE: u64 = 1 << 20;

    fn open(path: &'a Path) -> Result<Self> {
        let io = |e| Error::io(path.display().to_string(), e);
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(io(Errno::INVAL.into()));
        }
        Ok(Contents {
            path,
            file,
            size: metadata.len(),
        })
    }

    /// Sends as much as `place` is large, from byte `start` of the file on.
    fn send(
        mut self,
        start: u64,
        place: Place,
        send: &mut dyn FnMut(&[u8], u64) -> Result<()>,
    ) -> Result<()> {
        let io = |e| Error::io(self.path.display().to_string(), e);
        self.file.seek(SeekFrom::Start(start)).map_err(io)?;
        let mut done = 0;
        while done < place.size {
            let mut data = Vec::new();
            let want = Self::PIECE.min(place.size - done);
            let read = self.file.by_ref().take(want).read_to_end(&mut data);
            if read.map_err(io)? as u64 != want {
                // It became shorter meanwhile.
                return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
            }
            send(&data, place.mem + done)?;
            done += want;
        }
        Ok(())
    }
}

/// What the module says to a window.
pub fn prepare_error(errno: Errno, window: u64) -> Error {
    match errno {
        Errno::DOM => Error::WindowZero,
        Errno::INVAL => Error::WindowUnaligned(window),
        Errno::RANGE => Error::WindowTooLarge(window),
        Errno::NOMEM => Error::NoRoom(window),
        other => Error::from_errno(VERB, other),
    }
}

/// What it says to a window of the peer's own.
fn own_window_error(errno: Errno, size: u64) -> Error {
    match errno {
        Errno::NOMEM => Error::NoOwnRoom { verb: VERB, size },
        other => prepare_error(other, size),
    }
}

fn segment_error(errno: Errno, mem: u64, memsz: u64, window_end: Option<u64>) -> Error {
    match errno {
        Errno::ADDRNOTAVAIL => {
            let end = mem.saturating_add(memsz);
            let hint = match window_end {
                Some(w) if end > w => format!("use --window {}M", end.div_ceil(1 << 20)),
                _ => "use a kernel linked to an address where there is RAM".into(),
            };
            Error::SegmentOutside { mem, memsz, hint }
        }
        Errno::ADDRINUSE => Error::SegmentOverlap { mem, memsz },
        Errno::OVERFLOW => Error::SegmentWraps { mem, memsz },
        other => Error::from_errno(VERB, other),
    }
}

/// At a commit only the entry can lie outside.
pub fn commit_error(errno: Errno, entry: u64) -> Error {
    match errno {
        Errno::ADDRNOTAVAIL | Errno::INVAL => Error::SegmentOutside {
            mem: page_down(entry),
            memsz: kjump_abi::PAGE_SIZE,
            hint: "it has the entry, so use a kernel whose entry lies in a segment".into(),
        },
        other => Error::from_errno(VERB, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_answers_have_lines_of_their_own() {
        let prepare = |e| prepare_error(e, 0x1001).exit_code();
        assert_eq!(
            [Errno::DOM, Errno::INVAL, Errno::RANGE].map(prepare),
            [20, 21, 22]
        );
        assert_eq!(
            [Errno::BUSY, Errno::EXIST, Errno::PERM, Errno::NOMEM].map(prepare),
            [8, 7, 5, 12]
        );
        let taken = prepare_error(Errno::EXIST, 0x1000).of_name("full");
        assert!(taken.exit_code() == 7 && taken.to_string().contains("called full "));
        assert_eq!(own_window_error(Errno::NOMEM, 1).exit_code(), 12);
        assert_eq!(own_window_error(Errno::RANGE, 1).exit_code(), 22);
        let segment = |e| segment_error(e, 0x200_0000, 0x1001, Some(16 << 20));
        let code = |e| segment(e).exit_code();
        assert_eq!(
            [
                Errno::ADDRNOTAVAIL,
                Errno::ADDRINUSE,
                Errno::OVERFLOW,
                Errno::FAULT
            ]
            .map(code),
            [23, 24, 25, 26]
        );
        assert!(segment(Errno::ADDRNOTAVAIL)
            .to_string()
            .contains("--window 33M"));
    }

    #[test]
    fn files_that_are_no_kernels() {
        let code = |name: &str, bytes: &[u8]| {
            let path = std::env::temp_dir().join(format!("kjump-{}-{name}", std::process::id()));
            fs::write(&path, bytes).unwrap();
            let r = with_kernel(&path, |_| Ok(0)).map_err(|e| e.exit_code());
            fs::remove_file(path).unwrap();
            r
        };
        assert_eq!(code("empty", b""), Err(13));
        assert_eq!(code("text", &[b'#'; 2000]), Err(13));
        assert_eq!(code("short", b"\x7fELF"), Err(14));
        assert_eq!(
            code("bz", &bzimage::tests::image(160, 1 << 20, 1 << 20, true)),
            Ok(0)
        );
        assert_eq!(
            code("elf", &elf::tests::elf(0, &[(0, 0x5000, 1, b"x")])),
            Ok(0)
        );
        let missing = with_kernel(Path::new("/nonexistent"), |_| Ok(0)).unwrap_err();
        assert!(missing.exit_code() == 1 && missing.to_string().starts_with("/nonexistent: "));
    }

    #[test]
    fn an_initrd_goes_in_pieces() {
        let path = std::env::temp_dir().join(format!("kjump-{}-initrd", std::process::id()));
        let size = Contents::PIECE + 5;
        fs::write(&path, vec![1; size as usize]).unwrap();
        let sent = |place| {
            let mut sent = Vec::new();
            let mut send = |data: &[u8], mem| {
                sent.push((mem, data.len()));
                Ok(())
            };
            Contents::open(&path)
                .unwrap()
                .send(0, place, &mut send)
                .map(|()| sent)
        };
        assert_eq!(Contents::open(&path).unwrap().size, size);
        let whole = sent(Place { mem: 0x5000, size }).unwrap();
        assert_eq!(whole, [(0x5000, 1 << 20), (0x10_5000, 5)]);
        assert!(sent(Place {
            mem: 0x5000,
            size: size + 1
        })
        .is_err());
        fs::remove_file(&path).unwrap();
        assert!(Contents::open(Path::new("/")).is_err());
    }
}
