// relay is the process of the switch that connects the real nodes of a cluster: the network namespace of the switch exists as long
// as relay runs. relay listens on an address in this namespace, and forwards each connection to an address in the network namespace
// of file descriptor 3. This gives the nodes access to an API server that listens on loopback only.
//
//	relay LISTEN-ADDRESS:PORT CONNECT-ADDRESS:PORT
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The main thread stays in its namespace, by which other programs find the switch.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: relay LISTEN-ADDRESS:PORT CONNECT-ADDRESS:PORT 3<NETWORK-NAMESPACE")
	}
	signal.Ignore(syscall.SIGHUP)
	dials, err := dialer(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	listener, err := listen(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Print(err) // For instance out of descriptors, which is temporary.
			time.Sleep(100 * time.Millisecond)
			continue
		}
		answer := make(chan dialed)
		dials <- answer
		go serve(connection.(*net.TCPConn), answer)
	}
}

// listen waits for the address, which is added to the namespace after this process has created the namespace.
func listen(address string) (net.Listener, error) {
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		listener, err := net.Listen("tcp4", address)
		if err == nil || time.Since(begun) > 30*time.Second {
			return listener, err
		}
	}
}

type dialed struct {
	connection *net.TCPConn
	err        error
}

// dialer connects to the address in the other namespace for each channel that it receives, and sends the result to that channel.
func dialer(address string) (chan<- chan<- dialed, error) {
	requests, started := make(chan chan<- dialed), make(chan error)
	go func() {
		runtime.LockOSThread() // This thread enters the other namespace.
		if err := unix.Setns(3, unix.CLONE_NEWNET); err != nil {
			started <- fmt.Errorf("cannot enter the network namespace of descriptor 3: %w", err)
			return
		}
		close(started)
		for answer := range requests {
			// The address is literal and local: this thread creates the socket, and does not wait.
			connection, err := net.DialTimeout("tcp4", address, 5*time.Second)
			tcp, _ := connection.(*net.TCPConn)
			answer <- dialed{tcp, err}
		}
	}()
	return requests, <-started
}

func serve(from *net.TCPConn, answer <-chan dialed) {
	defer from.Close()
	to := <-answer
	if to.err != nil {
		log.Print(to.err)
		return
	}
	defer to.connection.Close()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		pour(to.connection, from)
	}()
	pour(from, to.connection)
	<-copied
}

// pour copies one direction of a connection until it ends, and forwards how it ended.
func pour(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		// The connection broke: neither side may wait for the other.
		to.Close()
		from.Close()
		return
	}
	to.CloseWrite()
}
