// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestProgressLines: where no terminal shows it, work that is over soon says nothing,
// and long work says where it is now and then.
func TestProgressLines(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		steps int
		every time.Duration
		want  string
	}{
		"over soon":      {10, 10 * time.Millisecond, ""},
		"a little":       {15, 100 * time.Millisecond, "  1.0s  step 9\n"},
		"many":           {120, 100 * time.Millisecond, "  1.0s  step 9\n  6.0s  step 59\n 11.0s  step 109\n"},
		"one that lasts": {1, time.Minute, "  1.0s  step 0\n"},
		"slow ones":      {3, 20 * time.Second, "  1.0s  step 0\n 20.0s  step 1\n 40.0s  step 2\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out strings.Builder
				p := startProgress(&out, false)
				p.fact("QEMU: because")
				<-time.After(time.Nanosecond) // no step begins when a line is due
				for i := range tc.steps {
					p.step(fmt.Sprintf("step %d", i))
					<-time.After(tc.every)
				}
				p.done()
				p.step("too late")
				<-time.After(time.Minute)
				require.Equal(t, "QEMU: because\n"+tc.want, out.String())
			})
		})
	}
}

func TestProgressTerminal(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := startProgress(&out, true)
	p.step("looking")
	p.fact("QEMU: because")
	p.step("booting")
	p.done()
	require.Equal(t, "\r\x1b[K  0.0s  looking\r\x1b[KQEMU: because\n\r\x1b[K  0.0s  booting\r\x1b[K", out.String())
	quiet := newProgress(nil, true)
	quiet.fact("QEMU: because")
	quiet.step("booting")
	quiet.done()
}
