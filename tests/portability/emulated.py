"""Runs a static program on an emulated CPU with AVX-512: ``emulated.py PROGRAM FILE [WORD...]``.

Bochs has the instructions that neither this CPU nor qemu or valgrind may have. It emulates a whole
PC, so Linux is started there with the program and its file in memory, in a minute; what the program
prints comes back by the serial port, and its exit status is this program's.

Debian: ``bochs``, ``busybox-static``, ``cpio``, ``isolinux``, ``xorriso``, and for a kernel
``linux-image-cloud-amd64``, or the path of another in FLOATFMT_LINUX.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLS = ("bochs", "cpio", "xorriso")
BUSYBOX = Path("/usr/bin/busybox")
LOADER = (
    Path("/usr/lib/ISOLINUX/isolinux.bin"),
    Path("/usr/lib/syslinux/modules/bios/ldlinux.c32"),
)
BIOS = Path("/usr/share/bochs/BIOS-bochs-latest")
VIDEO = Path("/usr/share/bochs/VGABIOS-lgpl-latest")
SECONDS = 1200

#: What Linux runs first; the pause is for the serial port.
INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/program {arguments} 2>&1
echo "exit status $?."
/bin/busybox sleep 2
/bin/busybox poweroff -f
"""

#: The emulated sizes of XSAVEC's and XSAVES' state are not what Linux expects, and then it would do
#: without AVX: it is told to do without those two.
BOOT = """default linux
label linux
  kernel /linux
  append initrd=/files.gz console=ttyS0 quiet nosmp noapic nokaslr mitigations=off tsc=reliable \
clocksource=tsc lpj=4000000 random.trust_cpu=on panic=-1 clearcpuid=xsaves,xsavec
"""

MACHINE = """config_interface: textconfig
display_library: rfb, options="timeout=0"
plugin_ctrl: speaker=0, voodoo=0, e1000=0, es1370=0, sb16=0, gameport=0, usb_uhci=0
sound: driver=default, waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
megs: 1024
cpu: model=corei7_skylake_x, count=1, ips=100000000
clock: sync=none
romimage: file={bios}
vgaromimage: file={video}
ata0-master: type=cdrom, path={here}/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={here}/serial.txt
log: {here}/bochs.log
"""


def linux() -> Path | None:
    """Return the kernel to be started: FLOATFMT_LINUX, or the newest of /boot that may be read."""
    if named := os.environ.get("FLOATFMT_LINUX"):
        return Path(named)
    kernels = (path for path in Path("/boot").glob("vmlinuz-*") if os.access(path, os.R_OK))
    return max(kernels, key=lambda path: path.stat().st_mtime, default=None)


def missing() -> list[str]:
    """Return what is needed and not here."""
    files = [BUSYBOX, *LOADER, BIOS, VIDEO, linux() or Path("/boot/vmlinuz-*")]
    tools = [tool for tool in TOOLS if shutil.which(tool) is None]
    return [*tools, *(str(file) for file in files if not file.exists())]


def make_disc(here: Path, program: Path, file: Path, arguments: list[str]) -> None:
    """Write `disc.iso`: the loader, Linux, and an archive that it unpacks into memory."""
    root, disc = here / "root", here / "disc"
    for folder in (root / "bin", root / "dev", root / "proc", disc / "isolinux"):
        folder.mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin")
    shutil.copy(program, root / "program")
    shutil.copy(file, root / "file")
    (root / "init").write_text(INIT.format(arguments=" ".join(["/file", *arguments])))
    (root / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    archive = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"],
        cwd=root,
        input=names.encode(),
        capture_output=True,
        check=True,
    ).stdout
    (disc / "files.gz").write_bytes(gzip.compress(archive, 1))
    shutil.copy(linux(), disc / "linux")
    for part in LOADER:
        shutil.copy(part, disc / "isolinux")
    (disc / "isolinux" / "isolinux.cfg").write_text(BOOT)
    subprocess.run(
        [
            *("xorriso", "-as", "mkisofs", "-quiet", "-o", here / "disc.iso"),
            *("-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat"),
            *("-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", disc),
        ],
        check=True,
        capture_output=True,
    )


def emulate(here: Path) -> str:
    """Start the machine of `here`, and return what its serial port said until it was off."""
    (here / "machine").write_text(MACHINE.format(bios=BIOS, video=VIDEO, here=here))
    command = ["bochs", "-q", "-f", str(here / "machine")]
    with open(here / "bochs.txt", "wb") as said:  # Debian's asks its debugger first: c, go on
        process = subprocess.Popen(
            command, cwd=here, stdin=subprocess.PIPE, stdout=said, stderr=said
        )
        try:
            process.communicate(b"c\n", timeout=SECONDS)
        except subprocess.TimeoutExpired:
            print(f"not done after {SECONDS} seconds", file=sys.stderr)
        finally:
            process.kill()
    return (here / "serial.txt").read_text(errors="replace").replace("\r", "")


def main(program: str, file: str, *words: str) -> int:
    """Run the program, print what it prints, and return its status."""
    if lacking := missing():
        print(f"not here: {', '.join(lacking)}", file=sys.stderr)
        return 125
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        make_disc(here, Path(program), Path(file), list(words))
        said = emulate(here)
        status = re.search(r"^exit status (\d+)\.$", said, re.M)
        print(said)
        if status is None:
            print((here / "bochs.log").read_text(errors="replace")[-2000:], file=sys.stderr)
            return 124
        return int(status[1])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
