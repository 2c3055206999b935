// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bootdisk

import (
	"bytes"
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stacklok/waggle/contract"
	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// TestHostsGuestd: the boot disk's guestd is that of the image, and goes on. What
// commands find is what they find in any machine, and nothing of how it came up.
func TestHostsGuestd(t *testing.T) {
	t.Parallel()
	p := machineParts(t)
	m := boot(t, p, bootFile{Guestd: map[string]string{"digest": p.baked}, PowerOff: "restart"})
	agent := m.peer.Ready.GetAgent()
	require.True(t, agent.GetOwnsMachine())
	require.Equal(t, guestv1.AgentOrigin_AGENT_ORIGIN_HOST, agent.GetOrigin())
	client := m.configure(t)

	require.Equal(t, "boot-disk\nsandbox\nset\n", run(t, client, "hostname; id -un; echo $FROM_HOST", false))
	for _, root := range []bool{false, true} {
		require.NotContains(t, run(t, client, "env", root), "KRUN_")
		require.Empty(t, run(t, client, "ls -d /first-root /lib/waggle/boot.json /newroot /image /scratch 2>/dev/null", root))
		checkMounts(t, run(t, client, "cat /proc/self/mountinfo", root))
	}
	guests := contract.Dial(t, contract.Unix(m.socket))
	t.Run("scenarios", func(t *testing.T) {
		// Those that ask for something of the machine, and a few for the terminals and
		// the disk. The others depend on guestd alone, which host/vmtest holds to all;
		// and what fills a machine to its limits finds the same kernel there.
		also := []string{"terminal", "attach", "files written and read", "output beyond the limit"}
		contract.RunSome(t, guests, ^contract.Plain, func(s contract.Scenario) bool {
			if s.Need&(contract.Alone|contract.Plain) != contract.None {
				return false
			}
			return s.Need != contract.None || slices.Contains(also, s.Name)
		})
	})
	m.restarts(t, client)
}

// TestImagesGuestd: the image's guestd takes over, and knows how to power off.
func TestImagesGuestd(t *testing.T) {
	t.Parallel()
	p := machineParts(t)
	m := boot(t, p, bootFile{PowerOff: "restart"})
	agent := m.peer.Ready.GetAgent()
	require.True(t, agent.GetOwnsMachine())
	require.Equal(t, guestv1.AgentOrigin_AGENT_ORIGIN_IMAGE, agent.GetOrigin())
	client := m.configure(t)
	require.Equal(t, "boot-disk\n", run(t, client, "hostname", false))
	m.restarts(t, client)
}

// TestNoImage: a machine that is nothing but guestd can be written all the same.
func TestNoImage(t *testing.T) {
	t.Parallel()
	m := bootWith(t, machineParts(t), bootFile{PowerOff: "restart"}, false)
	require.Equal(t, guestv1.AgentOrigin_AGENT_ORIGIN_HOST, m.peer.Ready.GetAgent().GetOrigin())
	client := m.configure(t)
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	var names bytes.Buffer
	_, err := client.ReadFile(ctx, &guestv1.FilesystemReadRequest{Path: "/etc/hostname"}, &names)
	require.NoError(t, err)
	require.Equal(t, "boot-disk\n", names.String())
	m.restarts(t, client)
}

// configure tells the machine what only its host knows.
func (m *machine) configure(t *testing.T) *guest.Client {
	t.Helper()
	client := guest.New(guest.DialFunc(contract.Unix(m.socket)))
	t.Cleanup(func() { _ = client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	require.NoError(t, client.Configure(ctx, &guestv1.SystemConfigureRequest{
		Hostname: proto.String("boot-disk"), User: &guestv1.WorkloadUser{}, Clock: timestamppb.Now(),
		Env: &guestv1.EnvDefaults{Variables: map[string]string{"FROM_HOST": "set"}},
	}))
	return client
}

// restarts asks the machine to end, which it does by a restart: QEMU, which runs
// with -no-reboot, ends as libkrun would.
func (m *machine) restarts(t *testing.T, client *guest.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	require.NoError(t, client.Shutdown(ctx, time.Second))
	require.ErrorContains(t, m.awaitEnd(t), "restarted", m.console)
	require.Contains(t, m.console.String(), "reboot: Restarting system")
	require.NotContains(t, m.console.String(), "Kernel panic")
}

// run runs a script and returns what it printed.
func run(t *testing.T, client *guest.Client, script string, root bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	var stdout bytes.Buffer
	_, err := client.Run(ctx, guest.Exec{
		Start:  &guestv1.Start{ExecId: rand.Text(), Command: &guestv1.Start_Shell{Shell: script}, AsRoot: root},
		Stdout: &stdout,
	})
	require.NoError(t, err)
	return stdout.String()
}

// checkMounts holds the mounts that a command sees to those of any machine.
func checkMounts(t *testing.T, mountinfo string) {
	t.Helper()
	var points []string
	options := map[string]string{}
	for line := range strings.Lines(mountinfo) {
		// proc_pid_mountinfo(5): id parent device root point options [tags] - type source super
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		require.True(t, ok && len(fields) >= 6 && len(kind) == 3, line)
		require.Len(t, fields, 6, "shared with nobody: %s", line)
		if strings.HasPrefix(fields[4], "/proc/") {
			continue // of which a kernel need not have all
		}
		points = append(points, fields[4]+" "+kind[0])
		options[fields[4]] = fields[5] + " " + kind[2]
	}
	slices.Sort(points)
	require.Equal(t, []string{
		"/ overlay", "/dev tmpfs", "/dev/pts devpts", "/dev/shm tmpfs", "/proc proc", "/run tmpfs",
		"/run/waggle tmpfs", "/sys sysfs", "/sys/fs/cgroup cgroup2", "/tmp tmpfs",
	}, points, mountinfo)
	for point, want := range map[string][]string{
		"/sys":           {"ro,nosuid,nodev,noexec"},
		"/sys/fs/cgroup": {"ro,nosuid,nodev,noexec", "nsdelegate", "memory_recursiveprot"},
		"/dev/pts":       {"gid=5", "ptmxmode=666"},
		"/dev/shm":       {"nosuid,nodev", "size="},
		"/run":           {"nosuid,nodev", "size=16384k"},
	} {
		for _, w := range want {
			require.Contains(t, options[point], w, point)
		}
	}
}
