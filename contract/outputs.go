// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// outputs is what becomes of much output, and of readers that do not read.
func outputs() []Scenario {
	return []Scenario{
		{"output beyond the limit", None, dropped},
		{"output that waits", None, waits},
		{"a reader that does not read", None, stalled},
	}
}

const (
	outputTotal = 12 << 20
	outputLimit = 2 << 20
)

// much writes outputTotal bytes, of which outputLimit are kept.
func much() *guestv1.Start {
	start := shell(fmt.Sprintf("head -c %d /dev/zero", outputTotal))
	start.OutputLimitBytes = outputLimit
	return start
}

// dropped has nobody who follows. The beginning and the end are kept.
func dropped(ctx context.Context, t *testing.T, g *Guest) {
	start := shell(fmt.Sprintf("until [ -e go ]; do sleep 0.02; done; echo begin; head -c %d /dev/zero; echo end; echo fine >&2", outputTotal))
	start.Cwd, start.OnDetach = g.dir(ctx, t), guestv1.DetachPolicy_DETACH_POLICY_KEEP_RUNNING
	start.OutputLimitBytes = outputLimit
	f, cut := g.openAlone(ctx, t, startRequest(start))
	require.NoError(t, f.next())
	cut()
	g.run(ctx, t, argv("touch", start.GetCwd()+"/go"))
	g.ended(ctx, t, start.GetExecId())

	late := g.attach(ctx, t, start.GetExecId(), nil)
	const total = outputTotal + uint64(len("begin\nend\n"))
	require.EqualValues(t, total, late.exited.GetStdoutBytes())
	require.EqualValues(t, total, uint64(late.stdout.Len())+late.dropped)
	require.Equal(t, late.dropped, late.exited.GetStdoutDroppedBytes())
	require.EqualValues(t, outputLimit, late.stdout.Len())
	require.True(t, bytes.HasPrefix(late.stdout.Bytes(), []byte("begin\n\x00")))
	require.True(t, bytes.HasSuffix(late.stdout.Bytes(), []byte("\x00end\n")))
	require.Equal(t, "fine\n", late.stderr.String(), "each stream has a limit of its own")
	require.Zero(t, late.exited.GetStderrDroppedBytes())
}

// waits has a follower that stands still for a while: the exec does too, and no
// byte is lost.
func waits(ctx context.Context, t *testing.T, g *Guest) {
	start := much()
	start.OutputPolicy = guestv1.OutputPolicy_OUTPUT_POLICY_WAIT
	f := g.open(ctx, t, startRequest(start))
	require.NoError(t, f.next())
	var last uint64
	since := time.Now()
	eventually(ctx, t, func() bool {
		if n := g.info(ctx, t, start.GetExecId()).GetStdoutBytes(); n != last || n == 0 {
			last, since = n, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	})
	require.Less(t, last, uint64(outputTotal))
	require.NoError(t, f.finish())
	require.Zero(t, f.dropped)
	require.True(t, bytes.Equal(make([]byte, outputTotal), f.stdout.Bytes()))
}

// stalled has one that reads nothing until the end. Neither the process nor the
// other reader waits for it.
func stalled(ctx context.Context, t *testing.T, g *Guest) {
	start := much()
	still := g.open(ctx, t, startRequest(start))
	require.NoError(t, still.next())
	along := g.attach(ctx, t, start.GetExecId(), nil)
	require.EqualValues(t, outputTotal, along.exited.GetStdoutBytes())
	require.EqualValues(t, outputTotal, uint64(along.stdout.Len())+along.dropped)
	require.NoError(t, still.finish())
	require.EqualValues(t, outputTotal, uint64(still.stdout.Len())+still.dropped, "what it lost is counted")
}
