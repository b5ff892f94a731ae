//! Command words that a program of the initramfs answers.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::parse;

/// Where such programs are.
const PROGRAMS: &str = "/etc/kjump/commands";

/// The program for a command word: an executable file named as the command is, or `0x` and the
/// word in hexadecimal. It goes before what this command does for the word by itself.
pub fn program(word: u32) -> Option<PathBuf> {
    find(Path::new(PROGRAMS), word)
}

fn find(folder: &Path, word: u32) -> Option<PathBuf> {
    let names = [
        parse::command_name(word).map(str::to_string),
        Some(format!("{word:#x}")),
    ];
    let mut paths = names.into_iter().flatten().map(|name| folder.join(name));
    paths.find(|path| {
        let metadata = path.metadata();
        metadata.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    })
}

/// What such a program is given: the command's name, and its number as the file name has it.
pub fn arguments(word: u32) -> Vec<String> {
    let name = parse::command_name(word).unwrap_or("unknown");
    vec![name.into(), format!("{word:#x}")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn programs_are_found_by_name_and_by_number() {
        let folder = std::env::temp_dir().join(format!("kjump-commands-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let make = |name: &str, mode| {
            let path = folder.join(name);
            fs::write(&path, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        make("hibernate", 0o755);
        make("0x6b630001", 0o755);
        make("0x12", 0o755);
        make("0x13", 0o644);
        fs::create_dir_all(folder.join("0x14")).unwrap();
        let found = |word| find(&folder, word).map(|p| p.strip_prefix(&folder).unwrap().to_owned());
        assert_eq!(found(0x6b63_0001), Some("hibernate".into()));
        assert_eq!(found(0x12), Some("0x12".into()));
        // Not executable, a folder, not there.
        assert_eq!((found(0x13), found(0x14), found(0)), (None, None, None));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(arguments(0x6b63_0002), ["shell", "0x6b630002"]);
        assert_eq!(arguments(9), ["unknown", "0x9"]);
    }
}
