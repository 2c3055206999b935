// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kruntest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun"
	"github.com/stacklok/waggle/host/krun/kruntest"
	"github.com/stacklok/waggle/host/vm"
)

// TestEachCallRefused: whichever call fails, and however, the error names it, the
// errno and what to do, and nothing is left.
func TestEachCallRefused(t *testing.T) {
	t.Parallel()
	calls := map[string]bool{"krun_add_net_unixstream": true}
	for _, e := range expected() {
		calls[e.call] = e.call != "krun_has_feature" // not one of its answers is an errno
	}
	for call, fails := range calls {
		for _, errno := range []unix.Errno{unix.EINVAL, unix.ENOENT, unix.EPERM} {
			if !fails {
				continue
			}
			t.Run(call+"_"+unix.ErrnoName(errno), func(t *testing.T) {
				t.Parallel()
				p := newPlace(t, kruntest.Options{Orders: []string{fmt.Sprintf("fail=%s:%d", call, errno)}})
				m, err := p.start(t, func(s *vm.Spec) {
					ours, _ := socketpair(t)
					s.NIC = &vm.NIC{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Conn: ours}
				})
				if err == nil { // the last call is made when Start has returned
					require.Equal(t, "krun_start_enter", call)
					err = m.end(t)
				}
				words := regexp.MustCompile(regexp.QuoteMeta(call+": "+unix.ErrnoName(errno)) + ` \(.+\): .+; .+`)
				require.Regexp(t, words, err.Error())
				require.NotErrorIs(t, err, vm.ErrPoweredOff)
				for _, inside := range []string{"at /disks/", "of /vsock/", "at /vsock/", "that /tmp ", "/proc/self/"} {
					require.NotContains(t, err.Error(), inside, "a path of the jail's")
				}
				switch call {
				case "krun_add_disk2":
					require.ErrorContains(t, err, "the disk boot at "+filepath.Join(p.dir, "cache")+"/")
				case "krun_set_console_output":
					require.ErrorContains(t, err, filepath.Join(p.dir, "krun", "console"))
				}
				p.requireNothingLeft(t)
			})
		}
	}
}

// TestUnfit: a libkrun that cannot run machines is refused before there is one,
// where its file shows it, and else by waggle-krun.
func TestUnfit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options kruntest.Options
		change  func(t *testing.T, p *place, c *krun.Config)
		is      error
		words   []string
	}{
		"older":        {options: kruntest.Options{Older: true}, is: krun.ErrUnfit, words: []string{"too old", krun.MinVersion}},
		"older bundle": {options: kruntest.Options{Older: true, Bundle: true}, is: krun.ErrUnfit, words: []string{"too old", krun.MinVersion}},
		"without NET":  {options: kruntest.Options{WithoutNet: true}, is: krun.ErrUnfit, words: []string{"NET=1"}},
		"without BLK":  {options: kruntest.Options{WithoutBlk: true}, is: krun.ErrUnfit, words: []string{"BLK=1"}},
		"no firmware":  {options: kruntest.Options{WithoutFirmware: true}, change: nothingElse, is: krun.ErrNoFirmware, words: []string{"libkrunfw", "install"}},
		"wrong firmware": {
			options: kruntest.Options{WrongFirmware: true}, is: krun.ErrUnfitFirmware, words: []string{"no krunfw_get_kernel", "install libkrunfw 5"},
		},
		"foreign program": {
			change: func(_ *testing.T, _ *place, c *krun.Config) { c.Runner = "/bin/true" },
			is:     krun.ErrUnfitRunner, words: []string{"/bin/true is not waggle-krun", "WAGGLE_KRUN"},
		},
		"no rights": {
			change: func(t *testing.T, p *place, c *krun.Config) {
				t.Helper()
				program, err := os.ReadFile(c.Runner)
				require.NoError(t, err)
				c.Runner = filepath.Join(p.dir, "waggle-krun")
				require.NoError(t, os.WriteFile(c.Runner, program, 0o100))
			},
			is: krun.ErrUnfitRunner, words: []string{"may not read and run it (mode 0100)", "chmod a+rx "},
		},
		"no library": {change: noLibrary, is: krun.ErrNoLibrary, words: []string{"libkrun is not installed", "WAGGLE_KRUN_LIB_DIR"}},
		"no runner": {
			change: func(_ *testing.T, p *place, c *krun.Config) { c.Runner = filepath.Join(p.dir, "none") },
			is:     krun.ErrNoRunner, words: []string{"WAGGLE_KRUN"},
		},
		"no KVM": {
			change: func(_ *testing.T, p *place, c *krun.Config) { c.KVM = filepath.Join(p.dir, "none") },
			is:     krun.ErrNoHypervisor, words: []string{"modprobe kvm_intel"},
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, c.options)
			cfg := p.config(t)
			if c.change != nil {
				c.change(t, p, &cfg)
			}
			_, err := krun.New(cfg)
			require.ErrorIs(t, err, c.is)
			for _, w := range c.words {
				require.ErrorContains(t, err, w)
			}
		})
	}
}

func nothingElse(*testing.T, *place, *krun.Config) {}

func noLibrary(t *testing.T, _ *place, c *krun.Config) { c.LibDir = t.TempDir() }

// TestUnfitInside is what only the loaded library shows.
func TestUnfitInside(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options kruntest.Options
		words   string
	}{
		"TEE":    {kruntest.Options{Orders: []string{"feature=6:1"}}, "-sev"},
		"EFI":    {kruntest.Options{Orders: []string{"feature=5:1"}}, "libkrun-efi"},
		"no NET": {kruntest.Options{Orders: []string{"feature=0:0"}}, "NET=1"},
		"no BLK": {kruntest.Options{Orders: []string{"feature=1:0"}}, "BLK=1"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, c.options)
			m, err := p.start(t, nil)
			if err == nil {
				err = m.end(t)
			}
			require.ErrorContains(t, err, c.words)
			require.ErrorContains(t, err, filepath.Join(p.libs, kruntest.Library), "the host's path")
			p.requireNothingLeft(t)
		})
	}
}

// TestSaysHostPaths: libkrun's own words too, and the log has them as they were said.
func TestSaysHostPaths(t *testing.T) {
	t.Parallel()
	p := newPlace(t, kruntest.Options{Orders: []string{"disks=lost"}})
	cfg := p.config(t)
	var log box
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	b, err := krun.New(cfg)
	require.NoError(t, err)
	s, _ := p.spec(t)
	m, err := b.Start(t.Context(), s)
	if err == nil {
		<-m.Done()
		err = m.Err()
	}
	require.ErrorContains(t, err, "double: cannot open disk "+filepath.Join(p.dir, "cache")+"/")
	require.NotContains(t, err.Error(), "/disks/boot")
	require.Contains(t, log.String(), "cannot open disk /disks/boot")
}

// TestEndsByItself is what Err says of it. libkrun's exit code says nothing: 0 is
// also what a guest's panic leaves.
func TestEndsByItself(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		orders  []string
		off     bool
		words   string
		console string
	}{
		"at once":    {[]string{"exit=0"}, true, "console", "booting"},
		"in a panic": {[]string{"boot=panic"}, true, "console", "kernel panic"},
		"with 3":     {[]string{"exit=3"}, false, "3", "booting"},
		"by a panic": {[]string{"abort=krun_start_enter"}, false, "told to abort", ""},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, kruntest.Options{Orders: c.orders})
			m, err := p.start(t, nil)
			require.NoError(t, err)
			err = m.end(t)
			require.ErrorContains(t, err, c.words)
			require.Equal(t, c.off, errors.Is(err, vm.ErrPoweredOff), "%v", err)
			require.Contains(t, m.console.String(), c.console)
			p.requireNothingLeft(t)
		})
	}
}

// TestGuestdEnds: with guestd the machine ends, as with a guest's process 1.
func TestGuestdEnds(t *testing.T) {
	t.Parallel()
	p := newPlace(t, kruntest.Options{})
	m, err := p.start(t, nil)
	require.NoError(t, err)
	m.welcome(t)
	guestd := descendants(t, m.PID())
	require.NotEmpty(t, guestd)
	require.NoError(t, unix.Kill(guestd[0], unix.SIGKILL))
	require.ErrorIs(t, m.end(t), vm.ErrPoweredOff)
	p.requireNothingLeft(t)
}

// TestHangs: Start does not wait for a libkrun that does not return longer than its
// context.
func TestHangs(t *testing.T) {
	t.Parallel()
	p := newPlace(t, kruntest.Options{Orders: []string{"hang=krun_set_exec"}})
	b, err := krun.New(p.config(t))
	require.NoError(t, err)
	spec, _ := p.spec(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	enough := errors.New("enough")
	stop := context.AfterFunc(hangs(ctx, t, p), func() { cancel(enough) })
	defer stop()
	_, err = b.Start(ctx, spec)
	require.ErrorIs(t, err, enough)
	p.requireNothingLeft(t)
}

// hangs returns a context that ends when the call is recorded.
func hangs(ctx context.Context, t *testing.T, p *place) context.Context {
	t.Helper()
	seen, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		for ctx.Err() == nil {
			record, _ := os.ReadFile(filepath.Join(p.dir, "krun", kruntest.RecordFile))
			if strings.Contains(string(record), "krun_set_exec") {
				return
			}
			<-time.After(10 * time.Millisecond)
		}
	}()
	return seen
}
