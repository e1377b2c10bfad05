// Registry is the CNCF distribution's registry for tests: whoever wants something of it must log in, and what it holds
// is in memory.
//
// Usage: registry FOLDER USER. The first line of the standard input is the user's password. It listens on a port of
// 127.0.0.1 that the system chooses, prints that address once it does, and ends when its standard input does: with
// whoever started it.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"golang.org/x/crypto/bcrypt"
)

func main() {
	if len(os.Args) != 3 {
		fail(errors.New("usage: registry FOLDER USER < PASSWORD"))
	}
	input := bufio.NewReader(os.Stdin)
	password, err := input.ReadString('\n')
	if err != nil {
		fail(fmt.Errorf("read the password: %w", err))
	}
	users := filepath.Join(os.Args[1], "htpasswd")
	if err := writeUser(users, os.Args[2], strings.TrimSuffix(password, "\n")); err != nil {
		fail(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	go func() {
		_, err := io.Copy(io.Discard, input)
		if err != nil {
			fail(err)
		}
		os.Exit(0)
	}()
	fmt.Println(listener.Addr())
	fail(http.Serve(listener, handlers.NewApp(context.Background(), settings(users))))
}

func settings(users string) *configuration.Configuration {
	config := &configuration.Configuration{
		Version: configuration.CurrentVersion,
		Storage: configuration.Storage{"inmemory": configuration.Parameters{}},
		Auth: configuration.Auth{"htpasswd": configuration.Parameters{
			"realm": "tests",
			"path":  users,
		}},
	}
	config.HTTP.Secret = "uploads end with the process"
	return config
}

func writeUser(path, name, password string) error {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		return fmt.Errorf("hash the password: %w", err)
	}
	return os.WriteFile(path, []byte(name+":"+string(hash)+"\n"), 0o600)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "registry:", err)
	os.Exit(1)
}
