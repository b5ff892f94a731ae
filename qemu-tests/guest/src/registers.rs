// SPDX-License-Identifier: GPL-2.0

//! A program that jumps with its floating-point registers full, and looks at them when it is back.

use std::arch::asm;
use std::os::fd::AsRawFd;

use kjump_abi as abi;

use crate::{raw, Outcome};

/// An image of the registers as FXSAVE writes it (Intel SDM vol. 1, 10.5).
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Image([u8; 512]);

/// Eight registers of the x87, 16 bytes each of which ten are the register's.
const X87: usize = 32;
/// Eight registers of SSE, 16 bytes each.
const XMM: usize = 160;
const END: usize = XMM + 8 * 16;

impl Image {
    /// As the processor writes it now, so that reserved parts are as it wants them, with every register
    /// different.
    fn full() -> Self {
        let mut image = Self([0; 512]);
        // SAFETY: FXSAVE writes 512 bytes at an address that is aligned to 16.
        unsafe { asm!("fxsave [{0}]", in(reg) image.0.as_mut_ptr(), options(nostack)) };
        // No register is empty, as the exception of an empty one would change what is compared.
        image.0[4] = 0xff;
        for (at, byte) in image.0[X87..END].iter_mut().enumerate() {
            if at >= XMM - X87 || at % 16 < 10 {
                *byte = at as u8 ^ 0x5a;
            }
        }
        image
    }

    /// Control words and registers; not the addresses of the last instruction and operand.
    fn compared(&self) -> (&[u8], &[u8], &[u8]) {
        (&self.0[..6], &self.0[24..28], &self.0[X87..END])
    }
}

/// `registers`: jumps to what is loaded, and prints `registers kept` if all is in them that was.
pub fn run(_: &[String]) -> Outcome {
    let device = raw::open()?;
    let mut jump = abi::Jump {
        version: abi::ABI_VERSION,
        ..Default::default()
    };
    let mut images = [Image::full(); 2];
    images[1].0.fill(0);
    let before = images[0];
    let mut answer = libc::SYS_ioctl as i32;
    // SAFETY: the system call reads and writes `jump`. FXRSTOR and FXSAVE read and write 512 bytes each;
    // all registers that they and the call change are named.
    unsafe {
        asm!(
            "fxrstor [{images}]",
            // The compiler may want ebx for itself.
            "xchg ebx, {fd:e}",
            "int 0x80",
            "xchg ebx, {fd:e}",
            "fxsave [{images} + 512]",
            "fninit",
            images = in(reg) images.as_mut_ptr(),
            fd = inout(reg) device.as_raw_fd() => _,
            inout("eax") answer,
            in("ecx") abi::IOC_JUMP,
            in("edx") &raw mut jump,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
        );
    }
    if answer != 0 {
        return Err(format!("the jump: errno {}", -answer));
    }
    if before.compared() != images[1].compared() {
        return Err(format!(
            "registers were {:02x?}\nand are {:02x?}",
            before.compared(),
            images[1].compared()
        ));
    }
    println!("registers kept");
    Ok(())
}
