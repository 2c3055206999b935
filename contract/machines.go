// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// machines is System.
func machines() []Scenario {
	return []Scenario{
		{"info", None, information},
		{"metrics", None, metrics},
		{"no machine to change", Plain, nothingToChange},
		{"configure without a machine", Plain | Alone, configurePlain},
		{"configure", Machine, configure},
		{"tunnel", Python, tunnel},
		{"tunnel to nobody", None, noTunnel},
	}
}

func (g *Guest) system(ctx context.Context, t *testing.T) *guestv1.SystemInfoResponse {
	t.Helper()
	res, err := g.System.Info(ctx, connect.NewRequest(&guestv1.SystemInfoRequest{}))
	require.NoError(t, err)
	return res.Msg
}

func information(ctx context.Context, t *testing.T, g *Guest) {
	start := shell("echo ready; sleep 1000")
	g.open(ctx, t, startRequest(start)).line(t)
	info := g.system(ctx, t)
	require.NotEmpty(t, info.GetAgent().GetVersion())
	require.LessOrEqual(t, info.GetAgent().GetProtocolMin(), info.GetAgent().GetProtocolMax())
	require.NotEmpty(t, info.GetKernel())
	require.NotEmpty(t, info.GetHostname())
	require.Positive(t, info.GetCpus())
	require.Positive(t, info.GetTasks())
	require.Positive(t, info.GetUptime().AsDuration())
	require.Positive(t, info.GetMemoryTotalBytes())
	require.Less(t, info.GetMemoryAvailableBytes(), info.GetMemoryTotalBytes())
	require.LessOrEqual(t, info.GetDiskFreeBytes(), info.GetDiskTotalBytes())
	require.Positive(t, info.GetDiskTotalBytes())
	for _, n := range []uint32{info.GetAgentGoroutines(), info.GetAgentDescriptors(), info.GetRunningExecs(), info.GetActiveCalls()} {
		require.Positive(t, n)
	}
	require.Positive(t, info.GetAgentResidentBytes())
	require.Zero(t, info.GetIdle().AsDuration(), "a command runs")
}

func metrics(ctx context.Context, t *testing.T, g *Guest) {
	stream, err := g.System.Metrics(ctx, connect.NewRequest(&guestv1.SystemMetricsRequest{Interval: durationpb.New(100 * time.Millisecond)}))
	require.NoError(t, err)
	defer func() { _ = stream.Close() }()
	var last *guestv1.SystemMetricsResponse
	for range 3 {
		require.True(t, stream.Receive(), "%v", stream.Err())
		msg := proto.CloneOf(stream.Msg())
		require.Positive(t, msg.GetTasks())
		require.Positive(t, msg.GetMemoryAvailableBytes())
		require.Positive(t, msg.GetDiskFreeBytes())
		if last != nil {
			require.True(t, msg.GetTime().AsTime().After(last.GetTime().AsTime()))
			require.GreaterOrEqual(t, msg.GetCpuTime().AsDuration(), last.GetCpuTime().AsDuration())
		}
		last = msg
	}
	often, err := g.System.Metrics(ctx, connect.NewRequest(&guestv1.SystemMetricsRequest{Interval: durationpb.New(time.Millisecond)}))
	require.NoError(t, err)
	defer func() { _ = often.Close() }()
	require.False(t, often.Receive())
	refused(t, often.Err(), connect.CodeInvalidArgument, "interval")
}

// nothingToChange asks for everything that would change the machine. Were it
// done, the machine would stay of use.
func nothingToChange(ctx context.Context, t *testing.T, g *Guest) {
	before := g.system(ctx, t)
	require.False(t, before.GetAgent().GetOwnsMachine())
	for field, req := range map[string]*guestv1.SystemConfigureRequest{
		"hostname":      {Hostname: proto.String("changed")},
		"clock":         {Clock: timestamppb.New(time.Now().Add(2 * time.Second))},
		"user.name":     {User: &guestv1.WorkloadUser{Name: "waggle-contract", Uid: 47111}},
		"network":       {Network: &guestv1.NetworkConfig{}},
		"ca_bundle_pem": {CaBundlePem: []byte("none")},
	} {
		// What it could do is not done either: a request is taken whole or not.
		req.Env = &guestv1.EnvDefaults{Variables: map[string]string{"WAGGLE_CHANGED": "1"}}
		req.Cwd = proto.String("/")
		_, err := g.System.Configure(ctx, connect.NewRequest(req))
		refused(t, err, connect.CodeFailedPrecondition, field)
		require.ErrorContains(t, err, "does not own the machine")
	}
	_, err := g.System.Shutdown(ctx, connect.NewRequest(&guestv1.SystemShutdownRequest{}))
	require.Equal(t, connect.CodeFailedPrecondition, connect.CodeOf(err), "%v", err)
	require.Equal(t, before.GetHostname(), g.system(ctx, t).GetHostname())
	require.NotContains(t, g.run(ctx, t, argv("env")).stdout.String(), "WAGGLE_CHANGED")
}

// configurePlain asks for what is guestd's own also where the machine is not, and
// undoes it.
func configurePlain(ctx context.Context, t *testing.T, g *Guest) {
	set := func(req *guestv1.SystemConfigureRequest) error {
		_, err := g.System.Configure(ctx, connect.NewRequest(req))
		return err
	}
	seen := func() []string {
		start := shell("pwd; echo $USER; echo $WAGGLE_PLAIN")
		start.Cwd = "" // the configured one
		return strings.Split(g.run(ctx, t, start).stdout.String(), "\n")
	}
	before := seen()
	require.NoError(t, set(&guestv1.SystemConfigureRequest{
		Env: &guestv1.EnvDefaults{Variables: map[string]string{"WAGGLE_PLAIN": "set"}},
		Cwd: proto.String("/usr"), Results: &guestv1.ResultLimits{Count: 256},
	}))
	require.Equal(t, []string{"/usr", before[1], "set", ""}, seen())
	if _, err := strconv.Atoi(before[1]); err != nil { // else the user has no name to ask for
		require.NoError(t, set(&guestv1.SystemConfigureRequest{User: &guestv1.WorkloadUser{Name: before[1]}}))
		for field, user := range map[string]*guestv1.WorkloadUser{
			"user.uid":  {Name: before[1], Uid: 47111},
			"user.home": {Name: before[1], Home: "/waggle-contract"},
		} {
			refused(t, set(&guestv1.SystemConfigureRequest{User: user}), connect.CodeFailedPrecondition, field)
		}
	}
	other := "root"
	if before[1] == other {
		other = "nobody"
	}
	refused(t, set(&guestv1.SystemConfigureRequest{User: &guestv1.WorkloadUser{Name: other}}), connect.CodeFailedPrecondition, "user.name")
	for field, req := range map[string]*guestv1.SystemConfigureRequest{
		"cwd":           {Cwd: proto.String("usr")},
		"env":           {Env: &guestv1.EnvDefaults{Variables: map[string]string{"": "1"}}},
		"results.count": {Results: &guestv1.ResultLimits{Count: 1 << 30}},
	} {
		refused(t, set(req), connect.CodeInvalidArgument, field)
	}
	require.NoError(t, set(&guestv1.SystemConfigureRequest{Env: &guestv1.EnvDefaults{}, Cwd: proto.String("")}))
	require.Equal(t, before, seen())
}

func configure(ctx context.Context, t *testing.T, g *Guest) {
	before := g.system(ctx, t)
	require.True(t, before.GetAgent().GetOwnsMachine())
	require.NotEmpty(t, before.GetBootPhases())
	set := func(name string) {
		_, err := g.System.Configure(ctx, connect.NewRequest(&guestv1.SystemConfigureRequest{Hostname: &name}))
		require.NoError(t, err)
	}
	set("contract")
	require.Equal(t, "contract", g.system(ctx, t).GetHostname())
	require.Equal(t, "contract\ncontract\n", g.run(ctx, t, shell("hostname; cat /etc/hostname")).stdout.String())
	set(before.GetHostname())
	for field, req := range map[string]*guestv1.SystemConfigureRequest{
		"hostname":             {Hostname: proto.String("not a name")},
		"results.age":          {Results: &guestv1.ResultLimits{Age: durationpb.New(-1)}},
		"results.count":        {Results: &guestv1.ResultLimits{Count: 1 << 30}},
		"results.output_bytes": {Results: &guestv1.ResultLimits{OutputBytes: 1}},
	} {
		_, err := g.System.Configure(ctx, connect.NewRequest(req))
		refused(t, err, connect.CodeInvalidArgument, field)
	}
}

// echo serves one connection: it reads to the half-close, and only then answers.
const echo = `
import socket
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
c, _ = s.accept()
got = b""
while data := c.recv(65536):
    got += data
c.sendall(got[::-1])
c.close()
`

func (g *Guest) tunnel(ctx context.Context, t *testing.T, port uint32) *connect.BidiStreamForClient[guestv1.SystemTunnelRequest, guestv1.SystemTunnelResponse] {
	t.Helper()
	stream := g.System.Tunnel(ctx)
	require.NoError(t, stream.Send(&guestv1.SystemTunnelRequest{Message: &guestv1.SystemTunnelRequest_Open{Open: &guestv1.TunnelOpen{Port: port}}}))
	return stream
}

func tunnel(ctx context.Context, t *testing.T, g *Guest) {
	server := g.open(ctx, t, startRequest(argv("python3", "-c", echo)))
	port, err := strconv.Atoi(server.line(t))
	require.NoError(t, err)
	stream := g.tunnel(ctx, t, uint32(port))
	first, err := stream.Receive()
	require.NoError(t, err)
	require.Empty(t, first.GetData(), "it says that the connection stands")
	sent := make([]byte, 500_000)
	for i := range sent {
		sent[i] = byte(i * i >> 8)
	}
	require.NoError(t, stream.Send(&guestv1.SystemTunnelRequest{Message: &guestv1.SystemTunnelRequest_Data{Data: sent}}))
	require.NoError(t, stream.CloseRequest())
	var got []byte
	for {
		msg, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		got = append(got, msg.GetData()...)
	}
	require.Len(t, got, len(sent))
	for i := range got {
		require.Equal(t, sent[len(sent)-1-i], got[i])
	}
	require.NoError(t, server.finish())
}

func noTunnel(ctx context.Context, t *testing.T, g *Guest) {
	for port, code := range map[uint32]connect.Code{0: connect.CodeInvalidArgument, 65536: connect.CodeInvalidArgument, 1: connect.CodeUnavailable} {
		_, err := g.tunnel(ctx, t, port).Receive()
		refused(t, err, code, "port")
	}
}
