package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// poll sends a request to the URL in each interval, over a new connection, without waiting for earlier responses. It prints the time
// of the request, the time of the response, and the response:
//
//	1763732425123.456 1763732425124.012 200 web-1
//	1763732425128.460 1763732427128.511 error context deadline exceeded
//
// After SIGTERM, it waits for the pending responses and exits.
func poll(url string, interval, timeout time.Duration) {
	client := &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	ticks := time.NewTicker(interval)
	var (
		pending sync.WaitGroup
		lines   sync.Mutex
	)
	for {
		select {
		case <-stop:
			pending.Wait()
			return
		case <-ticks.C:
		}
		pending.Add(1)
		go func() {
			defer pending.Done()
			begun := time.Now()
			answer := request(client, url)
			lines.Lock()
			defer lines.Unlock()
			fmt.Printf("%.3f %.3f %s\n", milliseconds(begun), milliseconds(time.Now()), answer)
		}()
	}
}

// request returns the response in one line: status and body, or the error.
func request(client *http.Client, url string) string {
	response, err := client.Get(url)
	if err != nil {
		return "error " + line(err.Error())
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "error " + line(err.Error())
	}
	return fmt.Sprintf("%d %s", response.StatusCode, line(string(text)))
}

func line(text string) string {
	return strings.Join(strings.Fields(text), " ")
}
