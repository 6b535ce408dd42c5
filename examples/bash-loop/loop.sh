#!/bin/bash
# The application of the other tutorial: it looks whether the file is there, and works while it is.

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
