//! Targets in files, shown and given a kernel.

use std::fs;

use clap::Parser;

use super::*;
use crate::loader::bzimage::tests::image as bzimage_of;

/// A directory that is gone afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("kjump-target-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    what: What,
}

fn parsed(line: &str) -> std::result::Result<What, String> {
    let line = Line::try_parse_from(line.split_whitespace());
    line.map(|l| l.what).map_err(|e| e.to_string())
}

#[test]
fn lines_as_the_documents_have_them() {
    let Ok(What::Create(c)) = parsed("kjump create /var/kjump.img --size 4G") else {
        panic!()
    };
    assert_eq!(c.size, 4 << 30);
    let line = "kjump bundle 8:1 --kernel k --initrd i --append x";
    let Ok(What::Bundle(b)) = parsed(line) else {
        panic!()
    };
    assert_eq!((b.append.as_str(), b.remove, b.force), ("x", false, false));
    assert!(matches!(parsed("kjump bundle 8:1 --remove"), Ok(What::Bundle(b)) if b.remove));
    for bad in [
        "kjump bundle 8:1",
        "kjump bundle 8:1 --remove --kernel k",
        "kjump create x",
        "kjump create x --size 4Q",
        "kjump show",
    ] {
        assert!(parsed(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_plain_file_says_what_it_is() {
    let dir = Directory::new("plain");
    let file = dir.put("image", &[0; 1 << 20]);
    let spec = Spec::File(file.clone());
    let system = System::default();
    let shown = Shown::of(&system, &spec).unwrap();
    let text = shown.text(false);
    assert!(
        text.contains("size     1048576 bytes, 1048576 for an image"),
        "{text}"
    );
    assert!(text.contains("image    none\nbundle   none"), "{text}");
    assert!(
        text.contains("device   not known") && !text.contains("resume "),
        "{text}"
    );

    let mut opened = system.open(&spec, Access::Write).unwrap();
    opened.prepare([7; 16]).unwrap();
    let kernel = Input {
        reader: &mut &[1; 5000][..],
        length: 5000,
    };
    opened.install_bundle(kernel, None, "root=\x1b[2J").unwrap();
    drop(opened);
    let json = Shown::of(&system, &spec).unwrap().text(true);
    for part in [
        "\"image\": \"unfinished\"",
        "\"kernel_bytes\": 5000",
        "\"initrd_bytes\": null",
        "\"room_bytes\": 1036288",
        "\"resume\": null",
    ] {
        assert!(json.contains(part), "{part}: {json}");
    }
    let text = Shown::of(&system, &spec).unwrap().text(false);
    assert!(
        !text.contains('\x1b') && text.contains("kernel 5000 bytes"),
        "{text}"
    );
}

#[test]
fn a_bundle_goes_to_a_target_and_to_nothing_else() {
    let dir = Directory::new("bundle");
    let target = dir.put("image", &[0; 1 << 20]);
    let kernel = dir.put("bzImage", &bzimage_of(160, 1 << 16, 1 << 16, true));
    let args = |kernel: &Path| BundleArgs {
        target: target.display().to_string(),
        kernel: Some(kernel.into()),
        initrd: None,
        append: String::new(),
        remove: false,
        force: false,
    };
    // A file that nobody has pinned may lie elsewhere tomorrow.
    let refused = bundle(&args(&kernel)).unwrap_err();
    assert!(matches!(refused, Error::Target(_)), "{refused}");
    assert_eq!(fs::read(&target).unwrap(), [0; 1 << 20]);

    let (mut file, _) = open(&kernel).unwrap();
    check_kernel(&mut file, &kernel).unwrap();
    assert_eq!(file.stream_position().unwrap(), 0);
    let text = dir.put("text", b"no kernel");
    let (mut file, length) = open(&text).unwrap();
    assert_eq!(length, 9);
    let refused = check_kernel(&mut file, &text).unwrap_err();
    assert_eq!(refused.exit_code(), 13);
    assert!(open(Path::new("/nonexistent")).is_err());
}
