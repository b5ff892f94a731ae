// SPDX-License-Identifier: GPL-2.0

//! A SQLite database under writes: Debian's `sqlite3` in A, a transaction every few hundredths of
//! a second, on the workload's disk. What is in it can be computed from how much is in it, so a
//! row that is lost, doubled or wrong shows.

use anyhow::{ensure, Context, Result};

use crate::vm::Vm;

/// The file, on the workload's disk.
const FILE: &str = "/mnt/base.db";

/// Two tables that must agree: the rows, and their number and sum.
const TABLES: &str = "CREATE TABLE entry (n INTEGER PRIMARY KEY, text TEXT NOT NULL); \
     CREATE TABLE total (n INTEGER, sum INTEGER); INSERT INTO total VALUES (0, 0);";

/// What the writer sends for row `$n`; the number that is safely in goes to /run/database.
const TRANSACTION: &str = "BEGIN; INSERT INTO entry VALUES ($n, printf('%0400d', $n * $n)); \
     UPDATE total SET n = n + 1, sum = sum + $n; COMMIT; SELECT writefile('/run/database', '$n');";

/// The whole truth in one statement: rows, largest number, what `total` says, whether the sums
/// agree, how many texts are wrong.
const QUESTION: &str = "PRAGMA integrity_check; SELECT count(*), max(n), (SELECT n FROM total), \
     (SELECT sum FROM total) = sum(n), sum(text <> printf('%0400d', n * n)) FROM entry;";

/// Creates the database and starts the writer.
pub fn start(vm: &mut Vm) -> Result<()> {
    vm.sh(&format!("sqlite3 {FILE} \"{TABLES}\""))?;
    vm.sh(&format!(
        "(n=0; while n=$((n + 1)); do echo \"{TRANSACTION}\"; sleep 0.03; done) \
         | sqlite3 -bail -cmd '.timeout 60000' {FILE} >/dev/null 2>/run/database.err & echo $! >/run/database.pid"
    ))?;
    Ok(())
}

/// Rows that are safely in, by the writer's word; 0 before the first.
pub fn progress(vm: &mut Vm) -> Result<u64> {
    let alive = "kill -0 $(cat /run/database.pid) 2>/dev/null || cat /run/database.err";
    let dead = vm.sh(alive)?;
    ensure!(dead.is_empty(), "sqlite3 has died: {dead}");
    // The file is empty for a moment at each write.
    let read = "for i in $(seq 100); do n=$(cat /run/database 2>/dev/null); \
                test -n \"$n\" && break; sleep 0.02; done; echo ${n:-0}";
    Ok(vm.sh(read)?.trim().parse()?)
}

/// The database is whole, and has at least the rows that it had `before`; gives how many.
pub fn check(vm: &mut Vm, before: u64) -> Result<u64> {
    let ask = format!("sqlite3 -cmd '.timeout 30000' {FILE} \"{QUESTION}\"");
    let answer = vm.sh(&ask)?;
    let rows = whole(&answer).with_context(|| format!("the database: {answer}"))?;
    ensure!(
        rows >= before,
        "the database had {before} rows and has {rows}"
    );
    Ok(rows)
}

/// The number of rows, if the answer to [`QUESTION`] is that of a database that is whole.
fn whole(answer: &str) -> Result<u64> {
    let (integrity, counts) = answer.split_once('\n').context("an answer is missing")?;
    ensure!(integrity == "ok", "integrity_check: {integrity}");
    let counts: Vec<u64> = counts
        .split('|')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [rows, last, total, sums_agree, wrong] = counts[..] else {
        anyhow::bail!("five numbers were asked for");
    };
    ensure!(rows == last && rows == total, "rows are missing or doubled");
    ensure!(sums_agree == 1 && wrong == 0, "rows are wrong");
    Ok(rows)
}

/// Ends the writer, wherever it is.
pub fn stop(vm: &mut Vm) -> Result<()> {
    let kill = "kill $(cat /run/database.pid); \
                for i in $(seq 50); do pidof sqlite3 >/dev/null || break; sleep 0.1; done";
    vm.sh(kill).map(drop)
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn answers_are_judged() {
        assert_eq!(whole("ok\n12|12|12|1|0").unwrap(), 12);
        for bad in [
            "ok",
            "row 3 missing from index\n12|12|12|1|0",
            "ok\n12|13|12|1|0",
            "ok\n12|12|11|1|0",
            "ok\n12|12|12|0|0",
            "ok\n12|12|12|1|2",
        ] {
            assert!(whole(bad).is_err(), "{bad}");
        }
    }
}
