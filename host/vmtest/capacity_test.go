// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmtest

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// gateFleet is how many environments the gate runs at once.
	gateFleet = 4
	// builders is how many are made at the same time.
	builders = 2
	// spare is the memory that a soak leaves to the rest of the machine, bytes.
	spare = 3 << 30
	// markerPlaces are where a guest keeps what another one must not see.
	markerPlaces = "/home/sandbox /tmp /var/tmp /dev/shm"
)

// citizen is one environment of a fleet.
type citizen struct {
	id, marker string
	took       time.Duration // of its create_environment
	bootID     string
}

// fleet is many environments at once.
type fleet struct {
	in      *Installation
	session *Session

	mu      sync.Mutex
	members []*citizen
}

// TestCapacity runs many environments at once, in the soak as many as the
// machine's memory holds. Each has a state of its own, all have one root disk,
// and nothing is left of them.
func TestCapacity(t *testing.T) {
	t.Setenv("WAGGLE_MAX_ENVIRONMENTS", "1000")
	in := Install(t)
	server := in.Serve(t)
	f := &fleet{in: in, session: server.Connect(t)}

	idle := descriptors(t, server.cmd.Process.Pid)
	f.grow(t, 1)
	f.settle(t, f.session, f.members[0])
	n := gateFleet
	if soaking() {
		n = f.room(t)
	}
	began := time.Now()
	f.grow(t, n-1)
	t.Logf("%d environments: made in %s", n, time.Since(began).Round(time.Second))
	f.each(t, n-1, func(c *Session, i int) { f.settle(t, c, f.members[i+1]) })

	rows := ps(t, in)
	require.Len(t, rows, n)
	began = time.Now()
	f.each(t, n, func(c *Session, i int) {
		m := f.members[i]
		require.Equal(t, "running", rows[m.id].State, m.id)
		f.onlyOwnState(t, c, m)
	})
	t.Logf("an exec in each: %s", time.Since(began).Round(time.Millisecond))
	f.oneRootDisk(t, rows)
	f.report(t, rows)

	var vmms []process
	for _, row := range rows {
		vmms = append(vmms, watch(t, row.VMMPid), watch(t, row.Pid))
	}
	f.destroy(t)
	for _, m := range f.members {
		nothingLeft(t, in, m.id)
	}
	for _, p := range vmms {
		require.True(t, p.endsWithin(t, time.Second), "process %d lives", p.pid)
	}
	require.Empty(t, ps(t, in))
	require.LessOrEqual(t, descriptors(t, server.cmd.Process.Pid), idle+builders, "but connections, the server keeps nothing of what is gone")
}

// each runs work for 0 to n-1 on builders goroutines, each with a copy of the
// session of its own.
func (f *fleet) each(t *testing.T, n int, work func(c *Session, i int)) {
	t.Helper()
	sessions := make(chan *Session, builders)
	for range builders {
		sessions <- f.session.fork()
	}
	together(t, n, builders, func(i int) {
		c := <-sessions
		defer func() { sessions <- c }()
		work(c, i)
	})
}

// grow makes n environments more.
func (f *fleet) grow(t *testing.T, n int) {
	t.Helper()
	f.each(t, n, func(c *Session, _ int) {
		var env environment
		began := time.Now()
		c.Call(t, "create_environment", map[string]any{"runtime": "python"}, &env)
		m := &citizen{id: env.ID, marker: "marker-" + env.ID, took: time.Since(began)}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.members = append(f.members, m)
	})
}

// settle leaves a marker of the environment wherever there could be one: in its
// disks, its memory and its processes. There is none before.
func (f *fleet) settle(t *testing.T, c *Session, m *citizen) {
	t.Helper()
	var ran executed
	c.Call(t, "execute", map[string]any{"environment_id": m.id, "language": "shell", "code": `
for d in ` + markerPlaces + `; do
	ls "$d"/marker-* 2>/dev/null && exit 1
	echo ` + m.marker + ` >"$d/` + m.marker + `" || exit 2
done
cat /proc/sys/kernel/random/boot_id`}, &ran)
	require.Zero(t, ran.ExitCode, "%s: %s%s", m.id, ran.Stdout, ran.Stderr)
	m.bootID = ran.Stdout

	started := make(chan struct{})
	ended := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	machine := attach(t, f.in, m.id)
	go func() {
		defer close(ended)
		// It ends with its machine: how, is no matter.
		_, _ = machine.Guest().Run(ctx, guest.Exec{
			Start: &guestv1.Start{
				ExecId:  m.marker,
				Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: []string{"sh", "-c", "sleep 86400; :", m.marker}}},
			},
			Started: func(*guestv1.Started) { close(started) },
		})
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	select {
	case <-started:
	case <-ended:
		require.FailNow(t, "the marking process did not start", m.id)
	}
}

// onlyOwnState looks for the markers of all environments in one.
func (f *fleet) onlyOwnState(t *testing.T, c *Session, m *citizen) {
	t.Helper()
	var ran executed
	c.Call(t, "execute", map[string]any{"environment_id": m.id, "language": "shell", "code": `
hostname
cat /proc/sys/kernel/random/boot_id
for d in ` + markerPlaces + `; do cat "$d"/marker-*; done
pgrep -fa "^sh -c sleep .* marker-" | cut -d" " -f2-`}, &ran)
	want := m.id + "\n" + m.bootID + strings.Repeat(m.marker+"\n", len(strings.Fields(markerPlaces))) +
		"sh -c sleep 86400; : " + m.marker + "\n"
	require.Equal(t, want, ran.Stdout, ran.Stderr)
}

// oneRootDisk holds that all machines read one file, and that each writes to one
// of its own.
func (f *fleet) oneRootDisk(t *testing.T, rows map[string]listed) {
	t.Helper()
	roots := map[uint64]string{}
	boots := map[string]bool{}
	for _, m := range f.members {
		boots[m.bootID] = true
		disks := disksOf(t, f.in, rows[m.id].VMMPid)
		require.Len(t, disks, 2, "a root disk and a scratch disk: %v", disks)
		for inode, path := range disks {
			if path == filepath.Join(f.in.Data, "scratch", m.id+".ext4") {
				continue
			}
			require.Equal(t, filepath.Join(f.in.Data, "disks"), filepath.Dir(path))
			roots[inode] = path
		}
	}
	require.Len(t, boots, len(f.members), "each has booted by itself")
	require.Len(t, roots, 1, "%v", roots)
}

// disksOf returns the files in the data directory that a VMM has open, by inode.
func disksOf(t *testing.T, in *Installation, pid int) map[uint64]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	disks := map[uint64]string{}
	for _, e := range entries {
		path, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil || filepath.Ext(path) != ".ext4" || !strings.HasPrefix(path, in.Data) {
			continue
		}
		var st unix.Stat_t
		require.NoError(t, unix.Stat(filepath.Join(dir, e.Name()), &st))
		disks[st.Ino] = path
	}
	return disks
}

// footprint is the memory that only one environment takes, in bytes: not the
// programs and the image's disk, which all share.
func footprint(t *testing.T, row listed) int64 {
	t.Helper()
	var n int64
	for _, pid := range []int{row.VMMPid, row.Pid} {
		// By shares: the supervisor maps the guest's memory as well.
		path := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
		n += kilobytes(t, path, "Pss_Anon") + kilobytes(t, path, "Pss_Shmem")
	}
	return n
}

// room is how many environments like the first one the memory holds.
func (f *fleet) room(t *testing.T) int {
	t.Helper()
	available := kilobytes(t, "/proc/meminfo", "MemAvailable")
	each := footprint(t, ps(t, f.in)[f.members[0].id])
	each += each / 10 // page tables, sockets
	n := 1 + int((available-spare)/each)
	t.Logf("%d MiB are available, an environment takes %d MiB: room for %d", available>>20, each>>20, n)
	require.Positive(t, n)
	return n
}

// report logs what an environment costs.
func (f *fleet) report(t *testing.T, rows map[string]listed) {
	t.Helper()
	took := make([]time.Duration, 0, len(f.members))
	var vmm, supervisors, whole []int64
	for _, m := range f.members {
		row := rows[m.id]
		took = append(took, m.took)
		vmm = append(vmm, resident(t, row.VMMPid))
		supervisors = append(supervisors, resident(t, row.Pid))
		whole = append(whole, footprint(t, row))
	}
	t.Logf("create_environment, %d at once: %s", builders, spread(took, func(d time.Duration) string { return d.Round(10 * time.Millisecond).String() }))
	mib := func(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }
	t.Logf("resident: VMM %s; supervisor %s; only its own of both %s", spread(vmm, mib), spread(supervisors, mib), spread(whole, mib))
	t.Logf("available now: %s", mib(kilobytes(t, "/proc/meminfo", "MemAvailable")))
}

// spread is the least, the median and the most of values.
func spread[T cmp.Ordered](values []T, text func(T) string) string {
	slices.Sort(values)
	return fmt.Sprintf("median %s (%s to %s)", text(values[len(values)/2]), text(values[0]), text(values[len(values)-1]))
}

func (f *fleet) destroy(t *testing.T) {
	t.Helper()
	f.each(t, len(f.members), func(c *Session, i int) {
		var discard map[string]any
		c.Call(t, "destroy_environment", map[string]any{"environment_id": f.members[i].id}, &discard)
	})
}
