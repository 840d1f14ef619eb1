#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs a static x86-64 program under Linux in Bochs, which emulates a CPU with AVX-512: for machines that have none, as
# QEMU and Valgrind do not emulate it. Prints what the program printed and exits with its status; 125 if it did not end.
#
#   sh tests/kernels/build.sh /tmp/test_kernels -static
#   KERNEL=... BOCHS=... sh tools/avx512_bochs.sh /tmp/test_kernels        about three minutes
#
# Needs isolinux, syslinux-common, xorriso, cpio, a C compiler with a static libc (Debian's names), and
#   KERNEL  a bzImage with serial console and ACPI built in, e.g. from linux-image-cloud-amd64: apt-get download it and
#           unpack it with dpkg -x; it need not be installed
#   BOCHS   2.8 or newer, with the BIOS images of bochsbios and bochs in BXSHARE. Bochs 2.7 rounds ties wrongly when it
#           makes f16 (the AVX2 level fails there, too). Its source builds in five minutes with ./configure
#           --enable-x86-64 --enable-cpu-level=6 --enable-avx --enable-evex --enable-all-optimizations
#           --enable-repeat-speedups --enable-fast-function-calls --enable-handlers-chaining --disable-plugins
#           --disable-docbook --with-nogui. Packages lack nogui; DISPLAY_LIBRARY=term does for minutes, then may block
# MODEL may name another CPU. This one has just F, CD, BW, DQ and VL, so that an instruction of VBMI, say, is caught.
set -eu
[ $# -ge 1 ] || {
    echo "usage: [KERNEL=BZIMAGE] [BOCHS=PROGRAM] [DISPLAY_LIBRARY=NAME] $0 STATIC_PROGRAM [ARGUMENT...]" >&2
    exit 2
}
kernel=${KERNEL:-$(find /boot -name 'vmlinuz-*' 2>/dev/null | sort | tail -n 1)}
[ -r "$kernel" ] || {
    echo "$0: no kernel: set KERNEL" >&2
    exit 2
}
program=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir "$work/root" "$work/cd"
cp "$program" "$work/root/program"
chmod 755 "$work/root/program"
for argument; do
    printf '%s\0' "$argument"
done >"$work/root/arguments"

# The first process. It tells where the program's output begins and ends: the kernel writes to the same console.
cat >"$work/init.c" <<'END'
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
int main(void)
{
    static char text[4096];
    char *arguments[256] = {"/program"};
    FILE *f = fopen("/arguments", "r");
    size_t size = f ? fread(text, 1, sizeof text - 1, f) : 0;
    int count = 1, status = 0;
    for (size_t i = 0; i < size && count < 255; i += strlen(text + i) + 1)
        arguments[count++] = text + i;
    printf("\n--- begin ---\n");
    fflush(stdout);
    if (fork() == 0) {
        execv(arguments[0], arguments);
        perror(arguments[0]);
        _exit(127);
    }
    wait(&status);
    printf("\n--- status %d ---\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    fflush(stdout);
    tcdrain(1);
    reboot(RB_POWER_OFF);
    return 0;
}
END
"${CC:-cc}" -O2 -static "$work/init.c" -o "$work/root/init"
(cd "$work/root" && find . | cpio -o -H newc --quiet) >"$work/cd/initrd"

cp "$kernel" "$work/cd/kernel"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$work/cd/"
# Bochs 2.7 tells a wrong size of compacted XSAVE areas, for which Linux would switch AVX off: no compaction then.
append="console=ttyS0 loglevel=4 mitigations=off nokaslr nosmp tsc=reliable noxsaves clearcpuid=xsavec panic=-1"
cat >"$work/cd/isolinux.cfg" <<END
DEFAULT linux
LABEL linux
 KERNEL kernel
 INITRD initrd
 APPEND $append
END
xorriso -as mkisofs -quiet -o "$work/cd.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 \
    -boot-info-table "$work/cd" 2>/dev/null

# ips is only how fast the guest's clocks go. Linux reads an MSR early that Bochs does not know, hence ignore_bad_msrs.
cat >"$work/bochsrc" <<END
display_library: ${DISPLAY_LIBRARY:-nogui}
cpu: model=${MODEL:-corei7_skylake_x}, count=1, ips=50000000, ignore_bad_msrs=1, reset_on_triple_fault=0
megs: 512
romimage: file=${BXSHARE:-/usr/share/bochs}/BIOS-bochs-latest
vgaromimage: file=${BXSHARE:-/usr/share/bochs}/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path="$work/cd.iso", status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev="$work/console"
clock: sync=none
log: "$work/log"
panic: action=fatal
error: action=report
info: action=ignore
END
# A Bochs with a debugger waits for "continue"; the power going off is a panic, and so the end.
echo continue | TERM=xterm "${BOCHS:-bochs}" -q -f "$work/bochsrc" >"$work/screen" 2>&1 || :

touch "$work/console" "$work/log"
tr -d '\r' <"$work/console" >"$work/lines"
sed -n '/^--- begin ---$/,/^--- status [0-9]* ---$/p' "$work/lines" | sed '1d;$d'
status=$(sed -n 's/^--- status \([0-9]*\) ---$/\1/p' "$work/lines")
[ -n "$status" ] || {
    echo "$0: the program did not end; the console, Bochs and its log say last:" >&2
    for file in lines screen log; do
        tail -n 20 "$work/$file" >&2
    done
    exit 125
}
exit "$status"
