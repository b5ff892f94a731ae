// SPDX-License-Identifier: GPL-2.0

//! Configuration fragments, and the check that Kconfig took every line of them: a line that it
//! silently drops (a dependency is missing) is an error here.

use std::collections::BTreeMap;

/// Settings by option; `n` stands for "is not set".
fn settings(config: &str) -> BTreeMap<&str, &str> {
    config.lines().filter_map(setting).collect()
}

/// One line: `CONFIG_X=value` or `# CONFIG_X is not set`.
fn setting(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("# ") {
        let name = rest.strip_suffix(" is not set")?;
        return name.starts_with("CONFIG_").then_some((name, "n"));
    }
    line.split_once('=')
        .filter(|(name, _)| name.starts_with("CONFIG_"))
}

/// The wishes that do not hold in the result, one line each. Of two wishes for one option the
/// later counts, as it does for Kconfig.
pub fn unfulfilled(wishes: &str, result: &str) -> Vec<String> {
    let result = settings(result);
    settings(wishes)
        .into_iter()
        .filter_map(|(name, wish)| {
            let got = result.get(name).copied().unwrap_or("n");
            (got != wish).then(|| format!("{name}: wanted {wish}, got {got}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::unfulfilled;

    const RESULT: &str = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_S=\"x=y\"\nCONFIG_H=0x100000\n";

    #[test]
    fn a_result_that_has_all() {
        let wishes = "# a comment\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_S=\"x=y\"\n\
                      # CONFIG_ABSENT is not set\nCONFIG_H=0x100000\n";
        assert!(unfulfilled(wishes, RESULT).is_empty());
    }

    #[test]
    fn dropped_and_changed_lines_are_named() {
        let missing = unfulfilled("CONFIG_A=m\nCONFIG_B=y\nCONFIG_ABSENT=y\n", RESULT);
        assert_eq!(
            missing,
            [
                "CONFIG_A: wanted m, got y",
                "CONFIG_ABSENT: wanted y, got n",
                "CONFIG_B: wanted y, got n"
            ]
        );
    }

    #[test]
    fn the_later_line_wins() {
        assert!(unfulfilled("CONFIG_B=y\n# CONFIG_B is not set\n", RESULT).is_empty());
    }
}
