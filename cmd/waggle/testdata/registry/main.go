// SPDX-License-Identifier: Apache-2.0

// Command registry is the distribution registry, in memory and on loopback, for tests. It
// is a module of its own: its modules are none of the product's.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
)

// main takes the path of a configuration, prints the address that it listens on, and ends
// when its standard input does, with whoever started it. With "token" after the path it
// wants bearer tokens, which it gives at /token.
func main() {
	if err := serve(os.Args[1], len(os.Args) > 2 && os.Args[2] == "token"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(path string, bearer bool) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open configuration: %w", err)
	}
	config, err := configuration.Parse(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	mux := http.NewServeMux()
	if bearer {
		given, err := newTokens(config, fmt.Sprintf("http://%s/token", l.Addr()), path+".pem")
		if err != nil {
			return err
		}
		mux.Handle("/token", given)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	mux.Handle("/", handlers.NewApp(ctx, config))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = s.Close()
	}()
	fmt.Println(l.Addr())
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
