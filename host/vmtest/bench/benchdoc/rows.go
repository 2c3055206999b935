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
			"through guestd it is a child with pipes for its standard streams, and what it writes is spooled to the disk as well.",
		rows: []row{
			{bench: "Stream/to-guest", metric: "raw", title: "host → guest, plain vsock"},
			{bench: "Stream/to-guest", metric: "guestd", title: "host → guest, Process.Run, to /dev/null"},
			{bench: "Stream/to-guest", metric: "share", title: "– share of the plain one", budget: 0.9, atLeast: true},
			{bench: "Stream/to-host", metric: "raw", title: "guest → host, plain vsock"},
			{bench: "Stream/to-host", metric: "guestd", title: "guest → host, Process.Run"},
			{bench: "Stream/to-host", metric: "share", title: "– share of the plain one", budget: 0.9, atLeast: true},
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
