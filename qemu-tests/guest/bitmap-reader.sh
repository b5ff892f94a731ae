#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0
#
# bitmap-reader.sh TARGET [LIST]
#
# Saves the memory of the kernel that this one was entered from, with nothing but docs/protocol.md,
# busybox and old memory (/dev/kjump, "Old memory" there). It finds the handoff block, checks it,
# reads the page map and copies each page that it names to TARGET, at the offset that is the page's
# address. The runs of pages, as FIRST and COUNT in decimal, go to LIST. For tests, and to show that
# it takes no more than that.

old=/dev/kjump
target=$1
list=${2:-/tmp/runs}
bb=/bin/busybox
PAGE=4096

die() {
    echo "bitmap-reader: $*"
    exit 1
}

# page ADDRESS: that page of the other kernel, to stdout.
page() {
    $bb dd if=$old bs=$PAGE skip=$(($1 / PAGE)) count=1 2>/dev/null
}

# number FILE OFFSET SIZE: a little-endian field of 4 or 8 bytes.
number() {
    set -- $($bb od -An -v -tu4 -j "$2" -N "$3" "$1") 0
    echo $(($1 + ($2 << 32)))
}

# text FILE OFFSET SIZE: a field of characters, without the NULs that fill it.
text() {
    $bb dd if="$1" bs=1 skip="$2" count="$3" 2>/dev/null | $bb tr -d '\0'
}

# parameter NAME: the value of NAME= on this kernel's command line.
parameter() {
    for word in $($bb cat /proc/cmdline); do
        case $word in "$1"=*) echo "${word#*=}" ;; esac
    done
}

# crc: CRC-32 of stdin, as gzip has it in the last eight bytes of what it writes.
crc() {
    $bb gzip -c | $bb tail -c 8 | $bb od -An -v -tu4 -N 4
}

# ---- The handoff block: the command line has its address, and so has the control page.
handoff=$(parameter kjump.handoff)
entry=$(parameter kexec_jump_back_entry)
[ -n "$handoff" ] && [ -n "$entry" ] || die "this kernel was not entered by a jump"
block=/tmp/handoff
page $((handoff)) >$block
[ "$(text $block 0 8)" = KJUMPHO1 ] || die "no handoff block at $handoff"
[ "$(number $block 8 4)" = 1 ] || die "a handoff block of another version"
size=$(number $block 12 4)
sum=$({
    $bb head -c 16 $block
    $bb head -c 4 /dev/zero
    $bb head -c "$size" $block | $bb tail -c +21
} | crc)
[ $((sum)) = "$(number $block 16 4)" ] || die "the handoff block's checksum is wrong"
page $((entry)) >/tmp/slot
[ "$(text /tmp/slot 0 8)" = KJUMPCTL ] || die "no control page at $entry"
[ "$(number /tmp/slot 8 8)" = $((handoff)) ] || die "the control page has another handoff block"

window=$(number $block 104 8)
index=$(number $block 128 8)
frames=$(number $block 136 8)
[ "$index" != 0 ] || die "there is no page map"
echo "bitmap-reader: from $(text $block 32 64), window $window, $frames frames"

# ---- The page map: an index page, and from it the pages with the bits, 32768 frames each.
map_pages() {
    page "$index" >/tmp/index
    n=0
    while [ $((n * 32768)) -lt "$frames" ]; do
        page "$(number /tmp/index $((n * 4)) 4)"
        n=$((n + 1))
    done
}

# Bits to runs. Least significant bit first; most bytes are all ones or all zeros.
map_pages | $bb od -An -v -tu1 | $bb awk -v frames="$frames" '
    function bit(set) {
        if (set && frame < frames) {
            if (!count) first = frame + 0
            count++
        } else if (count) {
            print first, count
            count = 0
        }
        frame++
    }
    {
        for (i = 1; i <= NF; i++) {
            byte = $i
            if ((byte == 0 && !count) || (byte == 255 && count && frame + 8 <= frames)) {
                frame += 8
                if (byte) count += 8
                continue
            }
            for (b = 0; b < 8; b++) {
                bit(byte % 2)
                byte = int(byte / 2)
            }
        }
    }
    END { bit(0) }' >"$list"

# ---- The pages. Where one of the window lies now is for old memory to know.
pages=0
while read -r first count; do
    told=$($bb dd if=$old of="$target" bs=$PAGE skip="$first" seek="$first" count="$count" \
        conv=notrunc 2>&1) || die "pages $first and on: $told"
    case $told in "$count+0 records in"*) ;; *) die "pages $first and on: $told" ;; esac
    pages=$((pages + count))
done <"$list"
$bb sync
echo "bitmap-reader: $pages pages in $($bb wc -l <"$list") runs"
