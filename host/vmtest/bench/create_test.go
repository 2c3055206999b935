// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// creations is how many environments are made, one after the other.
const creations = 7

// benchCreate measures create_environment and takes it apart. The first one, not
// counted, makes the image's disk.
func (s *site) benchCreate(b *testing.B) {
	s.create(b).destroy(b)
	took := series{}
	for range creations {
		began := time.Now()
		e := s.create(b)
		ended := time.Now() // includes one call of the supervisor, a millisecond
		e.phases(b, took, began, ended)
		began = time.Now()
		e.destroy(b)
		took.addTime("destroy", time.Since(began))
	}
	took.report(b, "sec")
}

// phases cuts a creation into what the supervisor and guestd noted.
func (e *environment) phases(b *testing.B, took series, began, ended time.Time) {
	b.Helper()
	info := e.info(b)
	phase := map[string]time.Duration{}
	var guest time.Duration // since the guest's kernel started its clock
	for _, t := range info.GetTimings() {
		d := t.GetDuration().AsDuration()
		if name, ok := strings.CutPrefix(t.GetName(), "guest: "); ok {
			guest += d
			phase["guest-"+name] = d
			continue
		}
		phase[t.GetName()] = d
	}
	require.Equal(b, hostv1.Phase_PHASE_RUNNING, info.GetState().GetPhase())
	running := info.GetState().GetSince().AsTime()
	dialled := running.Add(-phase["configure"])

	took.addTime("call", ended.Sub(began))
	took.addTime("ready", dialled.Sub(startOf(b, e.vmm)))
	took.addTime("server", info.GetCreatedAt().AsTime().Sub(began))
	took.addTime("scratch", phase["scratch disk"])
	took.addTime("vmm", phase["vmm"])
	took.addTime("firmware", phase["boot"]-guest)
	for _, name := range []string{"kernel", "modules", "root", "agent"} {
		require.Contains(b, phase, "guest-"+name)
		took.addTime(name, phase["guest-"+name])
	}
	took.addTime("configure", phase["configure"])
	took.addTime("answer", ended.Sub(running))
}

// startOf is when a process was forked, from field 22 of /proc/PID/stat, which
// counts ticks of 10 ms since the boot (proc(5)).
func startOf(b *testing.B, pid int) time.Time {
	b.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	require.NoError(b, err)
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	require.Greater(b, len(fields), 19)
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	require.NoError(b, err)
	var now unix.Timespec
	require.NoError(b, unix.ClockGettime(unix.CLOCK_BOOTTIME, &now))
	return time.Now().Add(time.Duration(ticks)*10*time.Millisecond - time.Duration(now.Nano()))
}
