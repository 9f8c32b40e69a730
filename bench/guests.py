# SPDX-License-Identifier: MIT
"""What the benches share: initramfs and command line of their guests, guests that do as they are told, ratios."""
import json
import os
import random
import statistics
import subprocess
import sys

from words import words

HERE = os.path.dirname(os.path.realpath(__file__))
CACHE = os.environ.get('XDG_CACHE_HOME', os.path.expanduser('~/.cache')) + '/kvick/kernels'
MINIMAL = CACHE + '/minimal/boot/vmlinux'
TICK = os.sysconf('SC_CLK_TCK')
COUNTERS = ('exits', 'halt_exits', 'irq_injections')


def compile_static(source, out, *flags):
    subprocess.run(['musl-gcc', '-static', '-s', *(flags or ['-O2']), '-I', HERE + '/..', '-idirafter', '/usr/include',
                    '-idirafter', '/usr/include/x86_64-linux-gnu', '-o', out, os.path.join(HERE, source)], check=True)


def initramfs(folder, source, *flags):
    """A static program as /init, in a cpio archive."""
    root = os.path.join(folder, 'root')
    os.makedirs(root + '/dev')
    compile_static(source, root + '/init', *flags)
    with open(folder + '/initrd', 'wb') as out:
        subprocess.run(['cpio', '-o', '-H', 'newc', '--quiet'], cwd=root, input=b'.\ndev\ninit\n',
                       stdout=out, check=True)
    return folder + '/initrd'


def qemu_q35(build, kernel, initrd, cpus=1, append=''):
    """A machine without devices, its console on stdin and stdout."""
    line = f'{words(build, "--transport", "pci")} quiet {append}'
    return ['qemu-system-x86_64', '-M', 'q35', '-accel', 'kvm', '-cpu', 'host', '-m', '256', '-smp', str(cpus),
            '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio', '-kernel', kernel,
            '-initrd', initrd, '-append', line.strip()]


def shuffled(some):
    """What comes first finds another host than what comes second: no one always does."""
    some = list(some)
    return random.sample(some, len(some))


def family(pid):
    """A process and all that it has started."""
    found = [pid]
    for p in found:
        try:
            for task in os.listdir(f'/proc/{p}/task'):
                with open(f'/proc/{p}/task/{task}/children', encoding='ascii') as f:
                    found += map(int, f.read().split())
        except OSError:
            pass  # it has ended
    return found


def cpu_seconds(pid):
    """proc(5): what all threads of the process and of its helpers had, less what of it was the guest's; and how much of
    that was in the kernel."""
    ticks = kernel = 0
    for p in family(pid):
        with open(f'/proc/{p}/stat', encoding='ascii') as f:
            fields = f.read().rsplit(')', 1)[1].split()
        ticks += int(fields[11]) + int(fields[12]) - int(fields[40])
        kernel += int(fields[12])
    return ticks / TICK, kernel / TICK


def kvm_counters():
    """Of all VMs of the host: a bench has no other beside it."""
    found = {}
    for name in COUNTERS:
        try:
            with open('/sys/kernel/debug/kvm/' + name, encoding='ascii') as f:
                found[name] = int(f.read())
        except OSError:
            pass
    return found


class Guest:
    """A running monitor, whose guest (bench/load.h) waits to be told what to do."""

    def __init__(self, command, exits=False):
        self.command, self.exits = command, exits and 'kvick' in command[0]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        errors='replace')
        self.expect('ready')

    def expect(self, word):
        """The rest of the next line that begins with the word."""
        heard = []
        for line in self.process.stdout:
            heard.append(line)
            words = line.split()
            if words[:1] == [word]:
                return words[1:]
        sys.exit(f'{" ".join(self.command)}: no "{word}": {"".join(heard[-5:])}')

    def own_exits(self):
        done = subprocess.run([self.command[0], 'stats', self.command[3]], capture_output=True, text=True, check=True)
        s = json.loads(done.stdout)
        found = {'exit ' + k: v for k, v in s['exits'].items()}
        for bus in ('ports', 'registers'):
            for r in s[bus]:
                name = f'{bus[:-1]} {r["name"]}'
                found[name] = found.get(name, 0) + r['accesses']
        return found

    def sample(self):
        cpu, kernel = cpu_seconds(self.process.pid)
        return {'cpu': cpu, 'kernel': kernel, **kvm_counters(), **(self.own_exits() if self.exits else {})}

    def load(self, *words):
        """How much a second of what the load counts, and what each of it took."""
        self.process.stdin.write(' '.join(map(str, words)) + '\n')
        self.process.stdin.flush()
        self.expect('load')
        before = self.sample()
        count, ns = map(int, self.expect('done'))
        after = self.sample()
        return {'rate': count * 1e9 / ns, **{k: (after[k] - before.get(k, 0)) / count for k in after}}

    def end(self):
        self.process.stdin.write('\n')
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.wait()


def of_rounds(rounds, base, key, what):
    """Ratios round by round: median, least and most."""
    ratios = [r[key][what] / b[key][what] for r, b in zip(rounds, base) if b[key][what]]
    if not ratios:
        return '-'
    return f'{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})'
