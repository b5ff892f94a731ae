//! Files with memory in them: nobody but their owner reads them.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Creates a file of mode 0600 under `path`. One that is there is removed first: it may have another
/// mode, be open already, or be a link to somewhere else.
pub fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{symlink, PermissionsExt};

    #[test]
    fn nobody_else_reads_it() {
        let folder = std::env::temp_dir().join(format!("kjump-private-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, other) = (folder.join("a"), folder.join("b"));
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode();
        create(&file).unwrap();
        assert_eq!(mode(&file), 0o100_600);
        // One that everybody reads, and a link to one.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        create(&file).unwrap();
        assert_eq!(mode(&file), 0o100_600);
        fs::write(&other, "x").unwrap();
        fs::remove_file(&file).unwrap();
        symlink(&other, &file).unwrap();
        create(&file).unwrap();
        assert_eq!(
            (mode(&file), fs::read(&other).unwrap()),
            (0o100_600, b"x".to_vec())
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
