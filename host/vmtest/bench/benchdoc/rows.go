// SPDX-License-Identifier: Apache-2.0

package main

// row is one line of docs/benchmarks.md.
type row struct {
	// bench is the benchmark's name without "Benchmark", metric the part of its
	// units in front of -p50-, as package bench's report makes them.
	bench, metric string
	// stat is p50 if empty, or p99.
	stat  string
	title string
	// budget is in the metric's base unit; zero: there is none. It is the most
	// that is allowed, or the least where atLeast is set.
	budget  float64
	atLeast bool
}

// table is one table of docs/benchmarks.md.
type table struct {
	title, note string
	rows        []row
}

const mib = 1 << 20

// tables are the rows in their order. A metric that has none, and a row that has
// no metric, fail the run.
var tables = []table{
	{
		title: "Creation",
		note: "An environment of the python image, one after the other, each destroyed before the next; the image's disk is there. " +
			"What is indented are the parts of the first line.",
		rows: []row{
			{bench: "Environment/create", metric: "call", title: "`create_environment` over MCP", budget: 3},
			{bench: "Environment/create", metric: "server", title: "– server, and start of the supervisor"},
			{bench: "Environment/create", metric: "scratch", title: "– scratch disk"},
			{bench: "Environment/create", metric: "vmm", title: "– network, initramfs, QEMU until it answers on QMP"},
			{bench: "Environment/create", metric: "firmware", title: "– firmware and kernel, before the kernel's clock runs"},
			{bench: "Environment/create", metric: "kernel", title: "– kernel, until guestd's first instruction that counts"},
			{bench: "Environment/create", metric: "modules", title: "– guestd: kernel modules"},
			{bench: "Environment/create", metric: "root", title: "– guestd: disks, overlay, root"},
			{bench: "Environment/create", metric: "agent", title: "– guestd: becoming the agent"},
			{bench: "Environment/create", metric: "configure", title: "– handshake and Configure"},
			{bench: "Environment/create", metric: "answer", title: "– answer"},
			{bench: "Environment/create", metric: "ready", title: "exec of QEMU → guestd's ready dial", budget: 2.5},
			{bench: "Environment/create", metric: "destroy", title: "`destroy_environment` over MCP"},
		},
	},
	{
		title: "Images",
		note: "The python image, its layers compressed by gzip. Pull: from a registry in the same process over loopback, verified and synced to disk; " +
			"the bytes are those on the wire. Disk: from the store to the ext4 file, synced; the bytes are those of the layers, unpacked. " +
			"umoci and tar unpack the same blobs into a directory, by turns with it, and sync nothing; tar leaves whiteouts as files and out what is in /dev.",
		rows: []row{
			{bench: "Image/pull", metric: "rate", title: "pull"},
			{bench: "Image/disk", metric: "rate", title: "making the disk"},
			{bench: "Image/disk", metric: "build", title: "– time"},
			{bench: "Image/disk", metric: "umoci", title: "`umoci unpack`"},
			{bench: "Image/disk", metric: "umoci-times", title: "– times as long as making the disk"},
			{bench: "Image/disk", metric: "tar", title: "`tar -xz`"},
			{bench: "Image/disk", metric: "tar-times", title: "– times as long as making the disk"},
		},
	},
	{
		title: "Commands",
		note:  "In the python environment, one after the other.",
		rows: []row{
			{bench: "Environment/true", metric: "call", title: "`true` over the kept connection, p50", budget: 0.045},
			{bench: "Environment/true", metric: "call", stat: "p99", title: "`true` over the kept connection, p99"},
			{bench: "Environment/execute", metric: "call", title: "`execute` of `print(6*7)` over MCP, p50"},
		},
	},
	{
		title: "Streams",
		note: "64 MiB each time, a plain vsock stream and one through guestd by turns on the same machine. The guest's end is the same program; " +
			"through guestd it is a child with pipes for its standard streams, and what it writes is spooled to the disk as well. " +
			"All of that is the work of the machine's one emulated CPU, where a pipe alone costs more than the plain stream. Large output goes to the " +
			"spool past the page cache, which leaves the CPU what a disk request costs, and a reader that keeps up gets it from memory. A profile of " +
			"guestd that sends, on a busy host, has 13 % in writes to the spool, 12 % in the kernel's vsock worker, mostly the kick of the device, and " +
			"20 % in guestd itself, most of it what a message costs and not its bytes; of one that receives, before its buffers were widened, 19 % in vsock's worker, 6 % each in copies " +
			"within guestd, in reads from vsock and in reads of the pipe, 5 % in writes to it.",
		rows: []row{
			{bench: "Stream/to-guest", metric: "raw", title: "host → guest, plain vsock"},
			{bench: "Stream/to-guest", metric: "guestd", title: "host → guest, Process.Run, to /dev/null"},
			{bench: "Stream/to-guest", metric: "share", title: "– share of the plain one", budget: 0.9, atLeast: true},
			{bench: "Stream/to-host", metric: "raw", title: "guest → host, plain vsock"},
			{bench: "Stream/to-host", metric: "guestd", title: "guest → host, Process.Run"},
			{bench: "Stream/to-host", metric: "share", title: "– share of the plain one", budget: 0.9, atLeast: true},
			{bench: "Environment/output", metric: "pipe", title: "for comparison: a pipe between two processes of the guest, to /dev/null"},
		},
	},
	{
		title: "Output",
		note: "In the python environment. The reader that stands still has attached to the same command, over the same connection, and reads nothing " +
			"until the other has everything; then it gets every byte too.",
		rows: []row{
			{bench: "Environment/output", metric: "small", title: "8 MiB in writes of 1 KiB"},
			{bench: "Environment/output", metric: "alone", title: "32 MiB to a reader"},
			{bench: "Environment/output", metric: "beside", title: "32 MiB to a reader, beside one that stands still"},
			{bench: "Environment/output", metric: "beside-share", title: "– share of the reader alone", budget: 0.9, atLeast: true},
		},
	},
	{
		title: "Against OpenSSH",
		note: "Debian's OpenSSH server in a python environment, with its default settings, and Go's client (golang.org/x/crypto/ssh), by turns with guestd. " +
			"SSH's connection is a Tunnel of guestd's over the same vsock device, for nothing else reaches into a machine; its own part of the time is small " +
			"beside encryption and key exchange, but it is in SSH's figures. Fresh is a connection for each command, as an SSH-based server has it; " +
			"multiplexed is a channel of a kept connection.",
		rows: []row{
			{bench: "SSH/true", metric: "guestd", title: "`true`, guestd"},
			{bench: "SSH/true", metric: "fresh", title: "`true`, SSH, fresh connection"},
			{bench: "SSH/true", metric: "fresh-times", title: "– times as long", budget: 20, atLeast: true},
			{bench: "SSH/true", metric: "multiplexed", title: "`true`, SSH, multiplexed"},
			{bench: "SSH/true", metric: "multiplexed-times", title: "– times as long", budget: 2.5, atLeast: true},
			{bench: "SSH/bulk", metric: "sink-guestd", title: "64 MiB host → guest, guestd"},
			{bench: "SSH/bulk", metric: "sink-ssh", title: "64 MiB host → guest, SSH"},
			{bench: "SSH/bulk", metric: "sink-times", title: "– guestd's rate over SSH's", budget: 2, atLeast: true},
			{bench: "SSH/bulk", metric: "source-guestd", title: "64 MiB guest → host, guestd"},
			{bench: "SSH/bulk", metric: "source-ssh", title: "64 MiB guest → host, SSH"},
			{bench: "SSH/bulk", metric: "source-times", title: "– guestd's rate over SSH's", budget: 2, atLeast: true},
			{bench: "SSH/crowd", metric: "guestd", title: "100 × `true` at once, guestd"},
			{bench: "SSH/crowd", metric: "ssh", title: "100 × `true` at once, SSH, multiplexed"},
			{bench: "SSH/crowd", metric: "times", title: "– SSH's time over guestd's"},
			{bench: "SSH/shells", metric: "guestd", title: "memory with 10 shells open, guestd"},
			{bench: "SSH/shells", metric: "ssh", title: "memory with 10 shells open, sshd and its children, shared pages counted once"},
		},
	},
	{
		title: "Files",
		note:  "64 MiB of random data; the hashes are compared. A write includes the fsync.",
		rows: []row{
			{bench: "Environment/file", metric: "write", title: "Filesystem.Write"},
			{bench: "Environment/file", metric: "read", title: "Filesystem.Read"},
		},
	},
	{
		title: "Memory",
		note: "Resident. Start: nothing but the boot has happened. End: after the commands and files above and a stream of 64 MiB each way. " +
			"QEMU's includes what the guest has touched of its 512 MiB; private is the part that is not shared with files or the guest.",
		rows: []row{
			{bench: "Environment/memory-start", metric: "guestd", title: "guestd, start", budget: 20 * mib},
			{bench: "Environment/memory-end", metric: "guestd", title: "guestd, end", budget: 20 * mib},
			{bench: "Stream/memory", metric: "guestd", title: "guestd, after all streams above", budget: 20 * mib},
			{bench: "Environment/memory-start", metric: "supervisor", title: "supervisor, start"},
			{bench: "Environment/memory-start", metric: "supervisor-anon", title: "– private"},
			{bench: "Environment/memory-end", metric: "supervisor", title: "supervisor, end"},
			{bench: "Environment/memory-end", metric: "supervisor-anon", title: "– private"},
			{bench: "Environment/memory-start", metric: "server", title: "server, start"},
			{bench: "Environment/memory-start", metric: "server-anon", title: "– private"},
			{bench: "Environment/memory-end", metric: "server", title: "server, end"},
			{bench: "Environment/memory-end", metric: "server-anon", title: "– private"},
			{bench: "Environment/memory-start", metric: "vmm", title: "QEMU, start"},
			{bench: "Environment/memory-start", metric: "vmm-anon", title: "– private"},
			{bench: "Environment/memory-end", metric: "vmm", title: "QEMU, end"},
			{bench: "Environment/memory-end", metric: "vmm-anon", title: "– private"},
		},
	},
}

// machine are the configuration keys that describe where it ran, in order.
var machine = []struct{ key, title string }{
	{"cpu", "CPU"},
	{"cores", "cores"},
	{"memory", "memory"},
	{"load", "load average at the start (1, 5, 15 min)"},
	{"accelerator", "accelerator"},
	{"kernel", "host kernel"},
	{"guest-kernel", "guest kernel"},
	{"qemu", "QEMU"},
	{"go", "Go"},
}

// machinePackage is where the rows come from; other packages' benchmarks run on
// the host alone and get a table without budgets.
const machinePackage = "github.com/stacklok/waggle/host/vmtest/bench"
