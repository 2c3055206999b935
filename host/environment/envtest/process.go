// SPDX-License-Identifier: Apache-2.0

package envtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// process keeps its commands, as guestd does, for as long as the machine lives.
type process struct {
	guestv1connect.UnimplementedProcessHandler
	m *Machine

	mu    sync.Mutex
	execs map[string]*command
	order []*command
	wg    sync.WaitGroup
}

func newProcess(m *Machine) *process { return &process{m: m, execs: make(map[string]*command)} }

// close ends all commands and waits for them.
func (p *process) close() {
	p.mu.Lock()
	for _, c := range p.order {
		c.kill(false)
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// Starts counts the commands that a machine has started, not those that were found.
func (m *Machine) Starts() int {
	m.process.mu.Lock()
	defer m.process.mu.Unlock()
	return len(m.process.order)
}

type runStream = connect.BidiStream[guestv1.ProcessRunRequest, guestv1.ProcessRunResponse]

// Run starts or finds a command, with the guest's home mapped to the machine's
// directory, and follows it.
func (p *process) Run(ctx context.Context, s *runStream) error {
	req, err := s.Receive()
	if err != nil {
		return err
	}
	c, existing, cursor, err := p.open(req)
	if err != nil {
		return err
	}
	c.follow(1)
	defer c.follow(-1)
	if c.stdin != nil {
		p.wg.Go(func() { c.feed(s) }) // it ends with this call, whose Receive fails then
	}
	started := &guestv1.Started{ExecId: c.start.GetExecId(), Pid: c.pid, Existing: existing, StartedAt: timestamppb.New(c.began)}
	if err := s.Send(&guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Started{Started: started}}); err != nil {
		return err
	}
	return c.send(ctx, s, cursor)
}

func (p *process) open(req *guestv1.ProcessRunRequest) (c *command, existing bool, from *guestv1.Cursor, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := req.GetAttach(); a != nil {
		c = p.execs[a.GetExecId()]
		if c == nil {
			return nil, false, nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("no exec %q", a.GetExecId()))
		}
		return c, true, a.GetCursor(), nil
	}
	start := req.GetStart()
	if c = p.execs[start.GetExecId()]; c != nil {
		if !proto.Equal(c.start, start) {
			return nil, false, nil, connect.NewError(connect.CodeAlreadyExists, errors.New("exec_id: was used for another command"))
		}
		return c, true, nil, nil
	}
	c = p.m.start(start)
	p.execs[start.GetExecId()] = c
	p.order = append(p.order, c)
	p.wg.Go(c.wait)
	return c, false, nil, nil
}

// Get implements the Process service.
func (p *process) Get(_ context.Context, req *connect.Request[guestv1.ProcessGetRequest]) (*connect.Response[guestv1.ProcessGetResponse], error) {
	c, err := p.find(req.Msg.GetExecId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&guestv1.ProcessGetResponse{Exec: c.info()}), nil
}

// List implements the Process service.
func (p *process) List(context.Context, *connect.Request[guestv1.ProcessListRequest]) (*connect.Response[guestv1.ProcessListResponse], error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	res := &guestv1.ProcessListResponse{}
	for _, c := range p.order {
		res.Execs = append(res.Execs, c.info())
	}
	return connect.NewResponse(res), nil
}

// Signal ends a command for certain; it knows no single signals.
func (p *process) Signal(_ context.Context, req *connect.Request[guestv1.ProcessSignalRequest]) (*connect.Response[guestv1.ProcessSignalResponse], error) {
	c, err := p.find(req.Msg.GetExecId())
	if err != nil {
		return nil, err
	}
	if !req.Msg.GetTerminate() || !c.kill(true) {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("it has ended"))
	}
	return connect.NewResponse(&guestv1.ProcessSignalResponse{}), nil
}

func (p *process) find(id string) (*command, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.execs[id]; c != nil {
		return c, nil
	}
	return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("no exec %q", id))
}

// feed copies what a stream brings to the command's input.
func (c *command) feed(s *runStream) {
	for {
		msg, err := s.Receive()
		if err != nil {
			if errors.Is(err, io.EOF) {
				_ = c.stdin.Close()
			}
			return
		}
		if data := msg.GetStdin(); data != nil {
			_, _ = c.stdin.Write(data) // it may have ended
		}
		if msg.GetCloseStdin() != nil {
			_ = c.stdin.Close()
		}
	}
}
