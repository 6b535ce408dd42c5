#!/bin/bash
# The application of the supporttools tutorial. It works while the status file exists.

while true
do
  if [ -f /tmp/leader_status ]
  then
    echo "leading: $(cat /tmp/leader_status)"
  else
    echo "not leading"
  fi
  sleep 1
done
