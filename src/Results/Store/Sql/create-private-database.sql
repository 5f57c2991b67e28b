CREATE DATABASE experiments
