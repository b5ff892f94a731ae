// SPDX-License-Identifier: GPL-2.0

//! The machine from outside, through QEMU's monitor: what state its CPUs and devices are in,
//! whatever the guest believes. The guest should stand still while this looks.

use anyhow::{ensure, Context, Result};
use serde_json::json;

use crate::qmp::Qmp;

/// A CPU's registers, as far as they tell where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Code segment's selector.
    pub cs: u32,
    /// Instruction pointer.
    pub eip: u32,
    /// Whether it waits for an interrupt, or for SIPI.
    pub halted: bool,
    /// Whether paging is on.
    pub paging: bool,
}

impl Cpu {
    /// After INIT a CPU stands halted at the reset vector until a SIPI comes.
    pub fn waits_for_sipi(&self) -> bool {
        self.halted && self.cs == 0xf000 && self.eip == 0xfff0
    }
}

/// Takes `info registers -a` apart.
fn parse_registers(text: &str) -> Result<Vec<Cpu>> {
    let number = |part: &str, name: &str| -> Result<u32> {
        let at = part
            .find(name)
            .with_context(|| format!("registers without {name}"))?;
        let digits: String = part[at + name.len()..]
            .trim_start()
            .chars()
            .take_while(char::is_ascii_hexdigit)
            .collect();
        Ok(u32::from_str_radix(&digits, 16)?)
    };
    text.split("CPU#")
        .skip(1)
        .map(|part| {
            Ok(Cpu {
                cs: number(part, "\nCS =")?,
                eip: number(part, "EIP=")?,
                halted: number(part, "HLT=")? == 1,
                paging: number(part, "CR0=")? >> 31 == 1,
            })
        })
        .collect()
}

/// All CPUs; the first is the boot CPU.
pub fn cpus(qmp: &mut Qmp) -> Result<Vec<Cpu>> {
    parse_registers(&qmp.hmp("info registers -a")?)
}

/// A function on the PCI bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciFunction {
    /// Device number on bus 0.
    pub device: u32,
    /// Function number.
    pub function: u32,
    /// Vendor in the low half, device in the high one.
    pub id: u32,
    /// The command register.
    pub command: u16,
}

impl PciFunction {
    /// Whether it may read and write memory by itself.
    pub fn is_bus_master(&self) -> bool {
        self.command & 4 != 0
    }

    /// Whether it is one of virtio's.
    pub fn is_virtio(&self) -> bool {
        self.id & 0xffff == 0x1af4
    }
}

/// Reads a 32-bit register of a function's configuration space, by mechanism #1.
fn config_read(qmp: &mut Qmp, device: u32, function: u32, register: u32) -> Result<u32> {
    let address = 1 << 31 | device << 11 | function << 8 | register;
    qmp.hmp(&format!("o /4 0xcf8 {address:#x}"))?;
    let answer = qmp.hmp("i /4 0xcfc")?;
    let digits = answer.rsplit("0x").next().unwrap_or_default().trim();
    u32::from_str_radix(digits, 16).with_context(|| format!("port 0xcfc: {answer}"))
}

/// All functions on bus 0, as the bus itself tells; the guest's own address register is put back.
pub fn pci(qmp: &mut Qmp) -> Result<Vec<PciFunction>> {
    let answer = qmp.hmp("i /4 0xcf8")?;
    let saved = answer
        .rsplit('=')
        .next()
        .unwrap_or_default()
        .trim()
        .to_string();
    let mut functions = Vec::new();
    for device in 0..32 {
        for function in 0..8 {
            let id = config_read(qmp, device, function, 0)?;
            if id == u32::MAX {
                if function == 0 {
                    break;
                }
                continue;
            }
            let command = config_read(qmp, device, function, 4)? as u16;
            functions.push(PciFunction {
                device,
                function,
                id,
                command,
            });
        }
    }
    qmp.hmp(&format!("o /4 0xcf8 {saved}"))?;
    ensure!(!functions.is_empty(), "no PCI functions found");
    Ok(functions)
}

/// A virtio device and the bits set in its status register, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtioStatus {
    /// As "virtio-blk".
    pub name: String,
    /// As "ACKNOWLEDGE"; none when the device is reset.
    pub bits: Vec<String>,
}

/// The status register of every virtio device.
pub fn virtio_status(qmp: &mut Qmp) -> Result<Vec<VirtioStatus>> {
    let list = qmp.execute("x-query-virtio", json!({}))?;
    let mut found = Vec::new();
    for device in list.as_array().context("x-query-virtio")? {
        let path = device["path"].as_str().context("path")?;
        let answer = qmp.execute("x-query-virtio-status", json!({ "path": path }))?;
        // An array of "VIRTIO_CONFIG_S_NAME: explanation", and a number where bits have no name.
        let named = answer["status"]["statuses"]
            .as_array()
            .context("statuses")?;
        let mut bits: Vec<String> = named
            .iter()
            .filter_map(|text| text.as_str()?.split(':').next())
            .map(|name| name.trim_start_matches("VIRTIO_CONFIG_S_").to_string())
            .collect();
        if answer["status"]["unknown-statuses"].as_u64().unwrap_or(0) != 0 {
            bits.push("unknown".into());
        }
        let name = device["name"].as_str().unwrap_or("virtio").to_string();
        found.push(VirtioStatus { name, bits });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTERS: &str = "
CPU#0
EAX=00000000 EBX=00000000 ECX=00000000 EDX=00000000
ESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000
EIP=c1023456 EFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =007b 00000000 ffffffff 00cff300 DPL=3 DS   [-WA]
CS =0060 00000000 ffffffff 00cf9b00 DPL=0 CS32 [-RA]
CR0=80050033 CR2=b7f1a000 CR3=01f0a000 CR4=000006d0

CPU#1
EAX=00000000 EBX=00000000 ECX=00000000 EDX=00060fb1
EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1
CS =f000 ffff0000 0000ffff 00009b00
CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000
";

    #[test]
    fn registers_tell_who_waits_for_sipi() {
        let cpus = parse_registers(REGISTERS).unwrap();
        assert_eq!(cpus.len(), 2);
        assert!(cpus[0].paging && !cpus[0].waits_for_sipi());
        assert!(!cpus[1].paging && cpus[1].waits_for_sipi());
        assert_eq!(cpus[0].eip, 0xc102_3456);
        assert!(parse_registers("CPU#0\nnothing").is_err());
    }
}
